"""Who stands between a guard and its manager gains nothing: each false certificate is refused with its sentence."""

import gc
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from agent.link.tls import PINNED
from agent.status import read_status
from schemas.keys import EnrollmentToken, ManagerKeyring
from tests.integration.guard.guard_thread import GuardThread
from tests.support.impostor import Authority, Impostor
from tests.support.waiting import eventually

NOT_THE_TOKENS = "does not show the authority that the enrollment token names"
UNKNOWN = "nobody that is trusted here has signed it"


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """Have such sockets collected before the next test."""
    yield
    gc.collect()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """The authority of the guard's own manager."""
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    """Somebody else's."""
    return Authority(tmp_path, "theirs")


@pytest.fixture
def guard(tmp_path: Path, ours: Authority, guard_log: StringIO) -> Iterator[GuardThread]:
    """A guard whose token names the authority of its manager."""
    token = EnrollmentToken.new(ManagerKeyring(bytes(32)).sign_public, ours.fingerprint)
    thread = GuardThread(tmp_path, "", str(token), guard_log)
    yield thread
    thread.stop()


def trouble(guard: GuardThread) -> str:
    """Return why the guard is not connected, by its status file."""
    return read_status(guard.directory).get("notConnected") or ""


def refused(guard: GuardThread, scheme: str, certificate: tuple[Path, Path], sentence: str) -> None:
    """Have the guard meet a server with this certificate: it tries again and again, says why, and nothing else."""
    with Impostor(*certificate) as impostor:
        guard.url = f"{scheme}://127.0.0.1:{impostor.port}"
        guard.start()
        eventually(lambda: sentence in trouble(guard), what=f"the sentence {sentence!r}")
        guard.log.attack("203.0.113.7")
        eventually(lambda: guard.status()["outboxSize"] == 1, what="a spooled threat")
        before = impostor.met
        eventually(lambda: impostor.met > before + 1, what="another try")
        assert impostor.heard == b""
        assert guard.status()["outboxSize"] == 1
        guard.stop()
    assert guard.failure is None


@pytest.mark.parametrize("scheme", ["mqtts", "https"])
class TestRefused:
    def test_a_man_in_the_middle(self, guard: GuardThread, theirs: Authority, scheme: str) -> None:
        """He has a certificate of his own making, for the right address."""
        refused(guard, scheme, theirs.server("between"), NOT_THE_TOKENS)

    def test_one_who_shows_the_true_authority_too(
        self, guard: GuardThread, ours: Authority, theirs: Authority, scheme: str, tmp_path: Path
    ) -> None:
        """That the right certificate lies in his chain is not enough: it must have signed it."""
        refused(guard, scheme, theirs.server("between", beside=[ours]), UNKNOWN)
        assert (tmp_path / "data" / PINNED).read_text() == ours.file.read_text()

    def test_another_authority_than_the_one_given(
        self, guard: GuardThread, ours: Authority, theirs: Authority, scheme: str
    ) -> None:
        """With a CA file that alone counts, whatever the token says."""
        guard.options = {"ca_file": theirs.file}
        refused(guard, scheme, ours.server("manager"), UNKNOWN)

    def test_an_expired_certificate(self, guard: GuardThread, ours: Authority, scheme: str) -> None:
        """Rightly signed, once."""
        refused(guard, scheme, ours.server("manager", days=-3), "it has expired; on the manager, run panguard")

    def test_a_certificate_for_other_hosts(self, guard: GuardThread, ours: Authority, scheme: str) -> None:
        """Whoever has a right certificate of one host is not the other one."""
        refused(guard, scheme, ours.server("manager", ["other.example", "192.0.2.1"]), "it is for other names")

    def test_what_was_pinned_counts_without_a_token(
        self, guard: GuardThread, ours: Authority, theirs: Authority, scheme: str, tmp_path: Path
    ) -> None:
        """A guard that knew its manager once is not to be had by another, token or not."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / PINNED).write_text(ours.file.read_text())
        guard.token = str(EnrollmentToken.new(ManagerKeyring(bytes(32)).sign_public))
        refused(guard, scheme, theirs.server("between"), UNKNOWN)


@pytest.mark.parametrize("scheme", ["mqtts", "https"])
def test_the_tokens_authority_is_kept_and_spoken_to(
    guard: GuardThread, ours: Authority, scheme: str, tmp_path: Path
) -> None:
    """The right server is told something, and its authority lies in the data directory, for the owner alone."""
    with Impostor(*ours.server("manager")) as manager:
        guard.url = f"{scheme}://127.0.0.1:{manager.port}"
        guard.start()
        eventually(lambda: manager.heard, what="words")
        guard.stop()
    pinned = tmp_path / "data" / PINNED
    assert pinned.read_text() == ours.file.read_text()
    assert pinned.stat().st_mode & 0o777 == 0o600


def test_a_pin_gives_way_to_the_authority_of_a_new_token(
    guard: GuardThread, ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    """A manager that began anew with another authority is followed by a token that names it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PINNED).write_text(theirs.file.read_text())
    with Impostor(*ours.server("manager")) as manager:
        guard.url = f"https://127.0.0.1:{manager.port}"
        guard.start()
        eventually(lambda: manager.heard, what="words")
        guard.stop()
    assert (tmp_path / "data" / PINNED).read_text() == ours.file.read_text()


def test_a_port_without_tls_is_said_so(guard: GuardThread) -> None:
    """What answers there speaks, but not TLS."""
    import socket  # noqa: PLC0415 -- only this test needs another side
    import threading  # noqa: PLC0415 -- the same

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        other = threading.Thread(target=answer)
        other.start()
        guard.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        guard.start()
        eventually(lambda: "does not speak TLS" in trouble(guard), what="the sentence")
        other.join()
        guard.stop()
