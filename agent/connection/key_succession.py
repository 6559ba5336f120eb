"""Succession of the manager's signing key at the guard: follows ManagerKeys, and stores the keys that it trusts."""

from collections import Counter

from agent.connection.identity import IdentityFile
from agent.errors import StorageError
from agent.logs import EventLog
from agent.manager_time import ManagerTime
from schemas import message_codes
from schemas.decoding import DecodeError, decode
from schemas.errors import KeyMaterialError
from schemas.keys import public_sign_key
from schemas.presence import ManagerKeys
from schemas.succession import TrustedKeys
from schemas.topics import MANAGER_KEYS

_log = EventLog("keys")

_ANEW = "register with a token of today; else somebody poses as the manager at the broker"
_ADVICE = {
    "succession_ended": "this guard was away for the whole succession: see that its clock is right, and register it"
    " with an enrollment token of today",
    "succession_unchained": f"it does not continue the key that is trusted here: if the manager was restored, {_ANEW}",
    "keys_forged": f"if the manager was set up anew, or its signing key was replaced over 30 days ago, {_ANEW}",
}


def followed(trusted: TrustedKeys, payload: bytes, now: float) -> tuple[TrustedKeys, ManagerKeys | None]:
    """Return the trusted keys after a ManagerKeys message, and the message if the newest of them has signed it.

    Args:
        trusted: The keys before.
        payload: The message, of any origin.
        now: Epoch seconds.
    """
    try:
        keys = decode(ManagerKeys, payload, MANAGER_KEYS.limit)
        after = trusted.followed(keys.successions or (), now)
        signed = message_codes.has_signature(public_sign_key(after.current), MANAGER_KEYS.below_root(), payload)
    except (DecodeError, KeyMaterialError):
        return trusted, None
    return after, keys if signed and keys.sign_key == after.current else None


class KeySuccession:
    """Follows the rotations of the manager's key in an open session.

    Args:
        identity: Stores the trusted keys.
        ignored: Counts rejected messages by reason.
        manager_time: The time by which rotations end.
    """

    def __init__(self, identity: IdentityFile, ignored: Counter[str], manager_time: ManagerTime) -> None:
        self._identity = identity
        self._ignored = ignored
        self._manager_time = manager_time

    def receive(self, payload: bytes) -> tuple[bool, ManagerKeys | None]:
        """Follow a ManagerKeys message.

        Returns:
            Whether the trusted keys have changed, which are stored then; and the message, if it is the manager's.

        Raises:
            StorageError: they cannot be stored.
        """
        enrolled = self._identity.identity.enrolled
        trusted = None if enrolled is None else enrolled.trusted
        if trusted is None or not payload:
            return False, None
        now = self._manager_time.latest_now()
        after, keys = followed(trusted, payload, now)
        if keys is None:
            self._reject(after, payload, now)
        if after == trusted:
            return False, keys
        self._identity.trust(after)
        if after.current != trusted.current:
            _log.info("signing_key_changed", number=after.number, sign_key=after.current)
        return True, keys

    def note_ends(self) -> bool:
        """Store which rotations have ended, so that no step of a clock revives a former key; return whether any has."""
        enrolled = self._identity.identity.enrolled
        trusted = None if enrolled is None else enrolled.trusted
        after = None if trusted is None else trusted.at(self._manager_time.latest_now())
        if after is None or after == trusted:
            return False
        try:
            self._identity.trust(after)
        except StorageError as error:
            _log.warning("keys_not_stored", reason=str(error))
            return False
        return True

    def _reject(self, trusted: TrustedKeys, payload: bytes, now: float) -> None:
        try:
            keys = decode(ManagerKeys, payload, MANAGER_KEYS.limit)
        except DecodeError:
            self._ignored["keys_unreadable"] += 1
            return
        reason = trusted.refusal(keys.successions or (), now) or "keys_forged"
        self._ignored[reason] += 1
        _log.warning("keys_ignored", reason=reason, sign_key=keys.sign_key, advice=_ADVICE.get(reason))
