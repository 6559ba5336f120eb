"""The manager's keys during a session: verified, and read for the forms of messages that the manager takes."""

from collections import Counter

from agent.connection.identity import Enrolled
from schemas import message_codes
from schemas.decoding import DecodeError, decode
from schemas.keys import public_sign_key
from schemas.presence import ManagerKeys
from schemas.topics import MANAGER_KEYS


def accepted_features(enrolled: Enrolled | None, payload: bytes, ignored: Counter[str]) -> list[str] | None:
    """Return what a manager's keys list in `accepts`; None for a message that is not the manager's.

    Args:
        enrolled: The guard's registration, with the pinned key.
        payload: The message, of any origin.
        ignored: Counts rejected messages by reason.
    """
    if enrolled is None or not enrolled.sign_key or not payload:
        return None
    if not message_codes.has_signature(public_sign_key(enrolled.sign_key), MANAGER_KEYS.below_root(), payload):
        ignored["keys_forged"] += 1
        return None
    try:
        return decode(ManagerKeys, payload, MANAGER_KEYS.limit).accepts
    except DecodeError:
        ignored["keys_unreadable"] += 1
        return None
