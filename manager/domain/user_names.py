"""Masks user names that are no account of their host: passwords that were typed into the wrong field are among them."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

ACCOUNT_KEYS = {"user": "userExists", "targetUser": "targetUserExists"}
"""Keys of a report's evidence with a user name, each with the key by which a guard states that it is an account."""

_OTHER_KEYS = ("username", "userName", "user_name", "users")
"""Keys that other agents use; nothing states that these names are accounts."""

_EVERYWHERE = frozenset({"root"})
_SHOWN = 2
_DIGITS = 8
_DEEPEST = 16


class UserNames:
    """Masks user names: two characters and a keyed hash.

    The same name has the same mask everywhere, so that reports can still be compared; without the key nobody can
    compute the mask of a guess.

    Args:
        key: The secret key of the hash.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def masked(self, name: str) -> str:
        """Return the mask of a name; of names below four characters it shows fewer than two."""
        digest = hmac.new(self._key, name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_DIGITS]
        return f"{name[: min(_SHOWN, len(name) // 2)]}…{digest}"

    def of_host(self, name: str, *, exists: bool) -> str:
        """Return a name as it may be shown: root and accounts of the host as they are, others masked."""
        return name if exists or name in _EVERYWHERE or not name else self.masked(name)

    def shown(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a report's evidence in which names that are no account are masked, in all of its texts.

        A name is an account if the guard that reports it says so, by `userExists` or `targetUserExists`.
        """
        masks = {name: self.masked(name) for name in _unknown(evidence) if name and name not in _EVERYWHERE}
        if not masks:
            return dict(evidence)
        longest_first = sorted(masks, key=len, reverse=True)
        wanted = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first))
        replaced = {key: _replaced(value, wanted, masks) for key, value in evidence.items()}
        for key in (*ACCOUNT_KEYS, *_OTHER_KEYS):
            if key in replaced:
                replaced[key] = _masked_value(evidence[key], masks, replaced[key])
        return replaced


def _unknown(evidence: Mapping[str, Any]) -> set[str]:
    """Return the names in evidence that no member states to be accounts."""
    known = {str(evidence.get(key)) for key, states in ACCOUNT_KEYS.items() if evidence.get(states) is True}
    found: set[str] = set()
    for key in (*ACCOUNT_KEYS, *_OTHER_KEYS):
        value = evidence.get(key)
        names: Iterable[Any] = value if isinstance(value, list) else (value,)
        found.update(name for name in names if isinstance(name, str))
    return found - known


def _masked_value(value: Any, masks: Mapping[str, str], otherwise: Any) -> Any:
    """Return the mask of a name, or of each name in a list."""
    if isinstance(value, list):
        return [masks.get(each, each) if isinstance(each, str) else each for each in value]
    return masks.get(value, value) if isinstance(value, str) else otherwise


def _replaced(value: Any, wanted: re.Pattern[str], masks: Mapping[str, str], depth: int = _DEEPEST) -> Any:
    """Return JSON in whose texts the names are masked; None for what is nested too deep to be examined."""
    if isinstance(value, str):
        return wanted.sub(lambda match: masks[match[0]], value)
    if isinstance(value, dict):
        if not depth:
            return None
        return {key: _replaced(each, wanted, masks, depth - 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, wanted, masks, depth - 1) for each in value] if depth else None
    return value
