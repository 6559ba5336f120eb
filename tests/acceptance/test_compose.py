"""The composition of compose.yaml, run for real: every command of it, in its order, as contained as it says.

Not with two managers: this composition has one; `test_scaled_composition` has that of several.
"""

import json
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.composition import services
from tests.support.containers import Containers, missing
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/unit/deployment/test_compose_file.py"), pytest.mark.mosquitto]
MANAGER = ["panguard", "manager"]
DATA = "--data-dir=/var/lib/panguard/manager"


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with Containers(tmp_path_factory.mktemp("compose")) as composition:
        composition.up()
        yield composition


def _agents(composition: Containers) -> list[dict[str, Any]]:
    ended = composition.run("manager", [*MANAGER, "agents", "list", "-o", "json", DATA])
    assert ended.returncode == 0, ended.stderr
    return list(json.loads(ended.stdout))


def test_a_guard_enrolls_with_the_token_in_its_volume(composition: Containers) -> None:
    """From nothing but the file: certificates, Mosquitto, manager and guard, each healthy, all of it over TLS."""
    (agent,) = _agents(composition)
    assert (agent["status"], agent["door"]) == ("online", "mqtt")
    listeners = (composition.volume("broker") / "conf.d" / "panguard.conf").read_text()
    assert listeners.count("listener ") == listeners.count("certfile tls/broker.crt") == 2
    assert "ready http=https://127.0.0.1:8443 mqtt=mqtts://broker:8883" in composition.log("manager").read_text()


def test_nothing_of_the_managers_reaches_the_broker(composition: Containers) -> None:
    """Its volume has the broker's own certificate and key, and neither the authority's key nor the manager's."""
    here = {path.name for path in (composition.volume("broker") / "tls").iterdir()}
    assert here == {"broker.crt", "broker.key", "ca.crt"}
    kept = b"".join(path.read_bytes() for path in composition.volume("broker").rglob("*") if path.is_file())
    for name in ("manager.key", "admin.token", "broker.password", "tls/ca.key", "tls/http.key"):
        secret = (composition.volume("manager") / name).read_bytes().strip()
        assert secret.splitlines()[-2 if secret.startswith(b"-----") else 0] not in kept, name


def test_all_that_is_kept_is_its_owners_alone(composition: Containers) -> None:
    """Every file and directory in every volume is closed to other users."""
    kept = list((composition.home / "volumes").rglob("*"))
    assert {"identity.json", "token", "ca.key", "dynamic-security.json"} <= {path.name for path in kept}
    assert {path for path in kept if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()


def test_it_may_be_started_again(composition: Containers) -> None:
    """What prepares runs at each start, beside a manager that runs, and leaves keys, logins and tokens as they are."""
    watched = {
        path: path.read_bytes()
        for volume in ("manager", "broker", "enrollment")
        for path in composition.volume(volume).rglob("*")
        if path.suffix in {".key", ".crt", ".token", ".password"} or path.name in {"token", "acl", "passwords"}
    }
    assert len(watched) >= 12
    composition.up()
    assert {path: path.read_bytes() for path in watched} == watched
    assert len(_agents(composition)) == 1


def test_health_checks_can_fail(composition: Containers) -> None:
    """Without a broker all three say so, and they are well again when it is back."""
    composition.stop("broker")
    serving = [name for name, service in services().items() if "healthcheck" in service]
    for name in serving:
        eventually(lambda name=name: not composition.is_healthy(name), what=f"{name} unwell")  # type: ignore[misc]
    composition.up()
    for name in serving:
        eventually(lambda name=name: composition.is_healthy(name), what=f"{name} well")  # type: ignore[misc]


def test_it_ends_in_order(composition: Containers) -> None:
    """Told to stop, guard, manager and broker end by themselves, within the time that compose.yaml gives them."""
    assert [composition.stop(name) for name in ("guard", "manager", "broker")] == [0, 0, 0]
    composition.up()
    eventually(lambda: _agents(composition)[0]["status"] == "online", what="the same guard, back")
