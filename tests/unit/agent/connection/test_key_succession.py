"""The guard's side of a rotation: what it stores, and which token's key stands for which keys."""

from collections import Counter
from pathlib import Path

from agent.clock import Clock
from agent.connection.identity import Enrolled, IdentityFile
from agent.connection.key_succession import KeySuccession
from agent.connection.transport import trusted_by
from agent.manager_time import ManagerTime
from schemas import message_codes
from schemas.keys import ManagerKeyring
from schemas.presence import ManagerKeys
from schemas.succession import PERIOD, Succession, TrustedKeys, signed_link
from schemas.topics import MANAGER_KEYS

NOW = 1_800_000_000.0
OLD, NEW, THIEF = (ManagerKeyring(bytes([number]) * 32) for number in range(3))
LINK = signed_link(OLD.sign_key, NEW.sign_key, number=1, now=NOW)


def _keys(signer: ManagerKeyring, *links: Succession) -> bytes:
    body = ManagerKeys(sign_key=signer.sign_public, seal_key=signer.seal_public, successions=list(links)).body()
    return message_codes.with_signature(signer.sign_key, MANAGER_KEYS.below_root(), body)


class Guard:
    """A registered guard's identity, on a clock of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = NOW
        self.ignored: Counter[str] = Counter()
        self.identity = IdentityFile(directory)
        self.identity.enroll(Enrolled("ag-00000000000000aa", "default", OLD.sign_public), 0)
        manager_time = ManagerTime(Clock(wall=lambda: self.now, monotonic=lambda: self.now))
        self.succession = KeySuccession(self.identity, self.ignored, manager_time)

    def trusted(self) -> TrustedKeys:
        """Return the keys as the next start reads them."""
        enrolled = IdentityFile(self.directory).identity.enrolled
        assert enrolled is not None
        assert enrolled.trusted is not None
        return enrolled.trusted


def test_a_rotation_is_stored_before_it_is_used(tmp_path: Path) -> None:
    """The next start knows the new key, and what has ended."""
    guard = Guard(tmp_path)
    assert guard.succession.receive(_keys(NEW, LINK))[0]
    assert guard.trusted().accepted(NOW) == (NEW.sign_public, OLD.sign_public)
    assert not guard.succession.receive(_keys(NEW, LINK))[0]
    assert not guard.succession.note_ends()
    guard.now += PERIOD
    assert guard.succession.note_ends()
    guard.now = NOW
    assert guard.trusted().accepted(NOW) == (NEW.sign_public,)


def test_what_is_not_the_managers_is_counted_by_its_kind(tmp_path: Path) -> None:
    """Forged keys, a chain that begins elsewhere, a rotation that has ended, and no keys at all."""
    guard = Guard(tmp_path)
    guard.succession.receive(_keys(THIEF))
    guard.succession.receive(_keys(NEW, signed_link(THIEF.sign_key, NEW.sign_key, number=1, now=NOW)))
    guard.succession.receive(b"{}")
    guard.now += PERIOD
    guard.succession.receive(_keys(NEW, LINK))
    assert dict(guard.ignored) == {
        "keys_forged": 1, "succession_unchained": 1, "keys_unreadable": 1, "succession_ended": 1,
    }  # fmt: skip
    assert guard.trusted() == TrustedKeys(OLD.sign_public)


def test_keys_of_a_former_key_are_not_the_managers(tmp_path: Path) -> None:
    """The link is followed all the same; who signs keys with the old one may be a thief that wants secrets sealed."""
    guard = Guard(tmp_path)
    changed, keys = guard.succession.receive(_keys(OLD, LINK))
    assert (changed, keys) == (True, None)
    assert guard.ignored["keys_forged"] == 1


def test_a_former_tokens_key_stands_for_what_the_guard_has_followed(tmp_path: Path) -> None:
    """It registers under the new key, also after the 30 days; a guard that has followed nothing begins at the token."""
    guard = Guard(tmp_path)
    guard.succession.receive(_keys(NEW, LINK))
    enrolled = guard.identity.identity.enrolled
    for key in (OLD.sign_public, NEW.sign_public):
        assert trusted_by(key, enrolled).current == NEW.sign_public
    assert trusted_by(THIEF.sign_public, enrolled) == TrustedKeys(THIEF.sign_public)
    assert trusted_by(OLD.sign_public, None) == TrustedKeys(OLD.sign_public)
