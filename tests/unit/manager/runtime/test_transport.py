"""Transport security from settings and files: certificates, trust in the broker, warnings."""

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from manager.errors import SetupError
from manager.runtime.transport_security import Transport
from manager.settings import Settings
from manager.tls.certificate_watch import CertificateWatch
from manager.tls.certificates import DAY, CertificateError
from manager.tls.client_context import pinned_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from manager.tls.server_certificate import CertificateFiles
from tests.support.impostor import Authority

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PANGUARD_"):
            monkeypatch.delenv(name)


@pytest.fixture
def directory(tmp_path: Path) -> TlsDirectory:
    """A data directory with certificates."""
    made = TlsDirectory(tmp_path)
    made.init((), NOW)
    return made


def plan(tmp_path: Path, **settings: Any) -> Transport:
    return Transport.plan(Settings(data_dir=tmp_path, **settings))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "manager.example"])
def test_nothing_beyond_loopback_goes_in_plain_text(tmp_path: Path, host: str) -> None:
    """Beyond loopback neither door opens without a certificate; the error says how to make one."""
    with pytest.raises(SetupError, match=r"HTTP and MQTT would go in plain text: .*certs init.*--insecure"):
        plan(tmp_path, host=host)
    assert plan(tmp_path, host=host, insecure=True).http is None
    TlsDirectory(tmp_path).init((), NOW)
    assert plan(tmp_path, host=host).http is not None


@pytest.mark.parametrize(("missing", "named"), [("http", "and HTTP would"), ("broker", "and MQTT would")])
def test_one_door_without_a_certificate_is_one_too_many(
    tmp_path: Path, directory: TlsDirectory, missing: str, named: str
) -> None:
    """The error names the door without a certificate."""
    directory.certificate(missing).unlink()
    with pytest.raises(SetupError, match=named):
        plan(tmp_path, host="0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_on_loopback_plain_text_is_fine(tmp_path: Path, host: str) -> None:
    """On loopback plain text is accepted, because it leaves no machine."""
    assert plan(tmp_path, host=host).http is None
    assert plan(tmp_path, broker=f"mqtt://{f'[{host}]' if ':' in host else host}").broker_trust is None


def test_the_managers_password_goes_to_no_other_machine_in_plain_text(tmp_path: Path) -> None:
    """mqtt:// beyond loopback is refused, whatever the HTTP door does."""
    with pytest.raises(SetupError, match="write mqtts://, or say --insecure"):
        plan(tmp_path, broker="mqtt://broker.example")
    assert plan(tmp_path, broker="mqtt://broker.example", insecure=True).broker_trust is None
    assert plan(tmp_path, broker="mqtts://broker.example").broker_trust is not None


def test_the_data_directorys_files_are_served_unless_others_are_named(tmp_path: Path, directory: TlsDirectory) -> None:
    """Files named in settings win and go in pairs; an external broker has its own certificate."""
    found = plan(tmp_path)
    assert found.http == CertificateFiles(directory.certificate("http"), directory.key("http"))
    assert found.broker == CertificateFiles(directory.certificate("broker"), directory.key("broker"))
    certificate, key = Authority(tmp_path, "other").server("other")
    named = plan(tmp_path, tls_certificate=certificate, tls_key=key)
    assert named.http == CertificateFiles(certificate, key)
    assert plan(tmp_path, broker="mqtts://broker.example").broker is None
    with pytest.raises(CertificateError, match="name both files of the http door"):
        plan(tmp_path, tls_certificate=certificate)


def test_tokens_name_the_own_authority_only_where_guards_meet_it(tmp_path: Path, directory: TlsDirectory) -> None:
    """Tokens name the own authority only if it issued a door's certificate."""
    own = directory.authority()
    assert own is not None
    assert plan(tmp_path).ca_fingerprint == own.fingerprint
    other = Authority(tmp_path, "other")
    certificate, key = other.server("other")
    elsewhere = {"tls_certificate": certificate, "tls_key": key}
    assert plan(tmp_path, **elsewhere).ca_fingerprint == own.fingerprint  # the broker's is the own one
    broker = {"broker_certificate": certificate, "broker_key": key}
    assert plan(tmp_path, **elsewhere, **broker).ca_fingerprint is None
    external = {**elsewhere, "broker": "mqtts://broker.example"}
    assert plan(tmp_path, **external, broker_ca_file=other.file).ca_fingerprint is None
    trusted = directory.certificate(AUTHORITY)
    assert plan(tmp_path, **external, broker_ca_file=trusted).ca_fingerprint == own.fingerprint
    assert plan(tmp_path / "empty").ca_fingerprint is None


def test_files_that_do_not_fit_are_said_so(tmp_path: Path, directory: TlsDirectory) -> None:
    """A key of another certificate, a file that is no PEM, a file that is not there."""
    mismatched = CertificateFiles(directory.certificate("http"), directory.key("broker"))
    with pytest.raises(CertificateError, match="the key does not belong to the certificate"):
        mismatched.context()
    (tmp_path / "text").write_text("no PEM")
    with pytest.raises(CertificateError, match="is not a file of PEM certificates"):
        CertificateFiles(tmp_path / "text", tmp_path / "text").chain()
    with pytest.raises(CertificateError, match="cannot be read"):
        CertificateFiles(tmp_path / "none", tmp_path / "none").chain()


def test_a_server_shows_its_whole_chain(directory: TlsDirectory) -> None:
    """The served chain ends in the authority, so that a client finds it by its fingerprint."""
    files = CertificateFiles(directory.certificate("http"), directory.key("http"))
    own = directory.authority()
    assert own is not None
    assert [certificate.fingerprint for certificate in files.chain()][1:] == [own.fingerprint]


def shakes_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> bool:
    """Return whether a client accepts a server, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = set()
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    assert len(done) == len(ends)
    return True


def test_the_embedded_broker_is_known_by_its_very_certificate(directory: TlsDirectory) -> None:
    """Another certificate of the same authority for the same names is not accepted."""
    broker, http = (CertificateFiles(directory.certificate(n), directory.key(n)) for n in ("broker", "http"))
    trust = pinned_context(broker)
    assert shakes_hands(broker.context(), trust, None)
    assert not shakes_hands(http.context(), trust, None)
    directory.renew((), NOW)
    assert not shakes_hands(broker.context(), trust, None)
    broker.add_trust(trust)
    assert shakes_hands(broker.context(), trust, None)


@pytest.fixture
def warnings() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


def test_a_certificate_that_was_only_met_is_warned_of_too(warnings: list[Any]) -> None:
    """The expiry of an external broker's certificate is known from the first connection on."""
    met: dict[str, float] = {}
    watch = CertificateWatch({}, lambda: met)
    watch.check(0.0, 10.0)
    assert (warnings, watch.records(0.0)) == ([], [])
    met["mqtt"] = 3.5 * DAY
    watch.check(5.0, 20.0)
    watch.check(10.0, 30.0)
    assert [(entry["door"], entry["days_left"]) for entry in warnings] == [("mqtt", 3)]
    assert watch.records(0.0) == [{"door": "mqtt", "expiresAt": "1970-01-04T12:00:00.000Z", "daysLeft": 3}]


@pytest.mark.parametrize(
    ("days", "at_once", "in_two_days"), [(32, 0, 0), (31, 0, 1), (29.5, 1, 2), (0.5, 1, 2), (-1, 1, 2)]
)
def test_what_expires_within_30_days_is_warned_of(
    tmp_path: Path, warnings: list[Any], days: float, at_once: int, in_two_days: int
) -> None:
    """Expiry within 30 days is warned of at the start and once a day."""
    files = CertificateFiles(*Authority(tmp_path, "ours").server("http", days=60))
    watch = CertificateWatch({"http": (files, lambda _files: None)})
    expires_at = watch.expiries()["http"]
    start = expires_at - days * DAY
    for monotonic in range(10, 30, 5):
        watch.check(start + monotonic, monotonic)
    assert len(warnings) == at_once
    watch.check(start + DAY + 10, 100.0)
    assert len(warnings) == in_two_days
    assert watch.records(start) == [
        {"door": "http", "expiresAt": watch.records(0)[0]["expiresAt"], "daysLeft": int(days // 1)}
    ]


def test_new_files_are_taken_up_once_and_only_whole(tmp_path: Path, warnings: list[Any]) -> None:
    """A new certificate without its key changes nothing; with its key both are served."""
    ours = Authority(tmp_path, "ours")
    files = CertificateFiles(*ours.server("http", days=60))
    served = files.context()
    watch = CertificateWatch({"http": (files, lambda new: new.refresh(served))})
    before = watch.expiries()
    fresh = CertificateFiles(*ours.server("fresh", days=90))
    fresh.certificate.replace(files.certificate)
    watch.check(0.0, 10.0)
    assert watch.expiries() == before
    assert [entry["event"] for entry in warnings] == ["certificate_not_loaded"]
    fresh.key.replace(files.key)
    watch.check(0.0, 20.0)
    assert watch.expiries()["http"] == pytest.approx(before["http"] + 30 * DAY, abs=60)
    client = ssl.create_default_context(cafile=str(ours.file))
    assert shakes_hands(served, client, "127.0.0.1")
    watch.check(0.0, 30.0)
    assert [entry["event"] for entry in warnings[1:]] == ["certificate_loaded"]
