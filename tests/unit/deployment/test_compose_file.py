"""What compose.yaml and the Dockerfile promise, read from the files themselves."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.composition import COMPOSE, DOCKERFILE, ROOT, mounts, services, stages

SCALE = ROOT / "compose.scale.yaml"
SERVICES = services()
EVERY = pytest.mark.parametrize("name", SERVICES)
SERVING = [name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"]


@EVERY
def test_a_service_may_do_nothing_that_it_need_not(name: str) -> None:
    """Not root, a file system that it cannot write, no capability, no way to new privileges, no core dump."""
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"]["core"] == 1
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "extra_hosts"} & set(service)
    assert service.get("network_mode", "none") == "none"


@EVERY
def test_a_service_is_bounded(name: str) -> None:
    """Memory, processors, processes and logs end somewhere."""
    service = SERVICES[name]
    assert all(service.get(limit) for limit in ("mem_limit", "cpus", "pids_limit"))
    assert service["logging"]["options"]["max-size"]


@EVERY
def test_no_secret_stands_in_the_file(name: str) -> None:
    """Nothing is handed over by environment or argument; the one password is the one that everybody knows."""
    service = SERVICES[name]
    assert not {"environment", "env_file"} & set(service)
    words = [*service["command"], *service.get("healthcheck", {}).get("test", ())]
    secret = re.compile(r"--(pw|password|auth-token|enroll-token|token|key)(=|$)|pg1\.|PRIVATE KEY|://[^/]*:[^/]*@")
    assert [word for word in words if secret.search(word)] == []
    assert "-P" not in words or words[words.index("-P") + 1] == "registration"


def test_secrets_are_mounted_where_they_are_needed() -> None:
    """The manager's volume stays with its own commands; a guard sees the enrollment token, and cannot write there."""
    seen = {name: {mount.volume: mount.read_only for mount in mounts(service)} for name, service in SERVICES.items()}
    assert {name for name, volumes in seen.items() if "manager" in volumes} == {
        "certificates", "prepare-broker", "manager", "enrollment",
    }  # fmt: skip
    assert seen["enrollment"]["manager"]
    assert seen["broker"] == {"broker": False}
    assert seen["guard"] == {"enrollment": True, "": False}


def test_what_serves_has_a_health_check() -> None:
    """And whoever needs another waits until that one is well, or has done its work."""
    assert SERVING == ["broker", "manager", "guard"]
    assert all(SERVICES[name]["healthcheck"]["test"][0] == "CMD" for name in SERVING)
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_healthy" if needed in SERVING else "service_completed_successfully"
            assert how["condition"] == wanted


def test_guards_are_optional() -> None:
    """Without a profile there are broker and manager, and what prepares them."""
    always = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert always == {"certificates", "prepare-broker", "broker", "manager"}
    assert {"guards"} == {profile for service in SERVICES.values() for profile in service.get("profiles", ())}


def test_images_are_pinned() -> None:
    """Each base by its patch release, each image of ours by its version, and Mosquitto by the one that is tested."""
    built = stages()
    for stage in built.values():
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?-slim(-\w+)?", stage.base), stage
    for service in SERVICES.values():
        assert re.fullmatch(r"[a-z-]+:\d+\.\d+\.\d+", service["image"])
        assert service["build"]["target"] in built
    assert re.findall(r"'(mosquitto\S*)=2\.0\.11-\*'", built["broker"].text) == ["mosquitto", "mosquitto-clients"]
    assert "--constraint constraints.txt" in built["build"].text


def test_the_image_can_open_a_postgresql_database() -> None:
    """The wheel is installed with the extra that `--database` needs, and its packages are pinned."""
    assert re.search(r"pip .*install .*\[postgresql\]", stages()["build"].text.replace("\\\n", ""))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["postgresql"] == ["psycopg[binary]>=3.3"]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {"psycopg", "psycopg-binary"} <= pinned


def test_final_images_hold_no_build_tools_and_are_not_root() -> None:
    """What builds stays in its own stage; a container that compose.yaml does not start is no root either."""
    final = {name: stage for name, stage in stages().items() if name != "build"}
    assert set(final) == {"panguard", "broker"}
    for stage in final.values():
        assert stage.user == SERVICES["manager"]["user"]
        assert not re.search(
            r"gcc|build-essential|-dev\b|pip install|pip wheel|^COPY (?!--from)", stage.text, re.MULTILINE
        )
    assert re.search(r"pip uninstall .*setuptools wheel pip", final["panguard"].text)


def test_only_sources_go_into_the_image() -> None:
    """The build sees what is listed by name: no data directory, no key and no history can slip in."""
    lines = (DOCKERFILE.parent / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert let_in == {
        "agent", "demo", "manager", "schemas", "simulate", "broker.conf", "constraints.txt", "LICENSE",
        "panguard.py", "pyproject.toml", "README.md",
    }  # fmt: skip


def _compose() -> list[str] | None:
    """Return what reads compose files here, or None."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if not shutil.which("docker"):
        return None
    plugin = ["docker", "compose"]
    found = subprocess.run([*plugin, "version"], capture_output=True, check=False)  # noqa: S603 -- the installed one
    return plugin if found.returncode == 0 else None


def _read_by_compose(*files: Path) -> dict[str, Any]:
    """Return the services of the files, merged by docker-compose; this needs no engine."""
    words = _compose()
    if words is None:
        if os.environ.get("CI"):
            pytest.fail("docker-compose is not installed")
        pytest.skip("neither docker-compose nor the compose plugin of docker is installed")
    named = [word for file in files for word in ("--file", str(file))]
    ended = subprocess.run(  # noqa: S603 -- the installed program, with our own files
        [*words, *named, "--profile", "guards", "config"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return dict(yaml.safe_load(ended.stdout)["services"])


def test_docker_compose_takes_the_file() -> None:
    """It reads every service and adds nothing to what is asked of each."""
    read = _read_by_compose(COMPOSE)
    assert {name: service["command"] for name, service in read.items()} == {
        name: service["command"] for name, service in SERVICES.items()
    }


def test_docker_compose_merges_both_files() -> None:
    """A command of the second file replaces the first one's; the first manager waits for both, and keeps its volume."""
    read = _read_by_compose(COMPOSE, SCALE)
    scaled = services(SCALE)
    commands = {name: service["command"] for name, service in {**SERVICES, **scaled}.items() if "command" in service}
    assert {name: service["command"] for name, service in read.items() if name in commands} == commands
    assert set(read) == set(SERVICES) | set(scaled)
    manager = read["manager"]
    assert (manager["user"], manager["read_only"], manager["cap_drop"]) == ("10001:10001", True, ["ALL"])
    assert set(manager["depends_on"]) == {"broker", "database"}
    # version 1 writes a mount as text
    mounted = {mount.split(":")[0] if isinstance(mount, str) else mount["source"] for mount in manager["volumes"]}
    assert mounted == {"manager", "database-password"}
