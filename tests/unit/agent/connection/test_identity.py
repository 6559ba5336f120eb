"""The identity file: private, whole, and never behind."""

import json
from pathlib import Path

import pytest

from agent.connection.identity import Enrolled, IdentityFile, PendingRegistration
from agent.errors import StorageError

ENROLLED = Enrolled("ag-00000000000000aa", "default", "k" * 43)


def test_the_secret_is_there_before_the_first_registration(tmp_path: Path) -> None:
    """A new directory gets a secret of 256 bits at once, and keeps it."""
    first = IdentityFile(tmp_path).identity
    assert len(first.secret) == 32
    assert IdentityFile(tmp_path).identity == first
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_a_session_is_on_the_disk_before_it_is_used(tmp_path: Path) -> None:
    """Each connect gets a number above all before it, whatever was used in between."""
    file = IdentityFile(tmp_path)
    assert file.raise_session() == 1
    assert IdentityFile(tmp_path).raise_session() == 2
    assert IdentityFile(tmp_path).raise_session(above=40) == 41


def test_enrolling_lifts_the_session_and_ends_the_wait(tmp_path: Path) -> None:
    """The manager's answer is kept as a whole, its last known session is a floor, the own one stays if higher."""
    file = IdentityFile(tmp_path)
    file.await_answer(PendingRegistration(client_id="0" * 32, payload="{}"))
    file.enroll(ENROLLED, known_session=7)
    kept = IdentityFile(tmp_path).identity
    assert (kept.enrolled, kept.session, kept.pending) == (ENROLLED, 7, None)
    file.enroll(ENROLLED, known_session=3)
    assert file.identity.session == 7


def test_what_http_gave_is_kept_beside_what_mqtt_gave(tmp_path: Path) -> None:
    """Either way finds its own and never the other's, through any number of changes, and the token is not shown."""
    over_http = Enrolled("ag-00000000000000bb", "acme", token="t0k")
    IdentityFile(tmp_path).enroll(ENROLLED, 0)
    assert IdentityFile(tmp_path, over_http=True).identity.enrolled is None
    IdentityFile(tmp_path, over_http=True).enroll(over_http, 0)
    IdentityFile(tmp_path).raise_session()
    IdentityFile(tmp_path, over_http=True).raise_session()
    assert IdentityFile(tmp_path).identity.enrolled == ENROLLED
    assert IdentityFile(tmp_path, over_http=True).identity.enrolled == over_http
    assert "t0k" not in repr(over_http)
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_an_identity_does_not_show_its_secret(tmp_path: Path) -> None:
    """Neither the identity nor its keys print what they hold."""
    identity = IdentityFile(tmp_path).identity
    stored = json.loads((tmp_path / "identity.json").read_text())
    assert stored["secret"] not in repr(identity)
    assert identity.secret.hex() not in repr(identity)
    assert identity.keys.mqtt_password not in repr(identity.keys)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"secret": "AAAA", "connection": "x"}', '{"secret": 5}'])
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, content: str) -> None:
    """A guard never makes a new identity over one that it cannot read."""
    path = tmp_path / "identity.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=r"identity\.json"):
        IdentityFile(tmp_path)
    assert path.read_text() == content
