"""Index of evidence for the never-block rules: successful logins and paths of files, kept for 7 days, bounded."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from manager.domain.correlation import Indicator
from manager.domain.correlation.indicators import indicators_of

LOGIN_COUNTS_FOR = 7 * 86_400.0
"""Seconds after a successful login in which an address is never blocked (the design, section 3, "Responder")."""

_KEPT_FOR = LOGIN_COUNTS_FOR
_MOST = 100_000
_LONGEST_PATH = 256
_LONGEST_TEXT = 256
"""The maximum length of a path, and of an address or hash, in characters."""

_SYSTEM_PATH = re.compile(
    r"/(?:usr/)?(?:bin|sbin|lib|lib32|lib64|libx32|libexec)/"
    r"|/(?:boot|system|library/apple)/"
    r"|/usr/share/"
    r"|(?:[a-z]:)?\\(?:windows|program files|program files \(x86\))\\",
    re.IGNORECASE,
)


def is_system_path(path: str) -> bool:
    """Return whether a path lies where an operating system keeps its own programs."""
    return ".." not in path and _SYSTEM_PATH.match(path) is not None


class Observed(NamedTuple):
    """The evidence about one indicator. Times are seconds since 1970.

    Attributes:
        at: The receipt of the last report that renewed it.
        last_login: The newest successful login from the address; None if none is known.
        agent_id: The agent that reported the login.
        system_path: A system path of the file; None if none is known.
    """

    at: float
    last_login: float | None
    agent_id: str
    system_path: str | None


class EvidenceIndex:
    """The newest login and a system path of each indicator, from reports.

    An entry is kept for 7 days after the last such report, for at most 100,000 indicators; the least recently renewed
    goes first. The store keeps the same entries.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._observed: OrderedDict[Indicator, Observed] = OrderedDict()
        self._changes: dict[Indicator, Observed | None] = {}

    def __len__(self) -> int:
        """Return the number of indicators."""
        return len(self._observed)

    def load(self, entries: Iterable[tuple[Indicator, Observed]]) -> None:
        """Add the stored entries, the least recently renewed first."""
        self._observed.update(entries)

    def take_changes(self) -> dict[Indicator, Observed | None]:
        """Return the entries that changed since the last call, in the order of renewal; None for a dropped one."""
        changes, self._changes = self._changes, {}
        return changes

    def record(
        self, organization_id: str, site: str | None, agent_id: str, evidence: Mapping[str, Any], at: float
    ) -> Indicator | None:
        """Record a report's evidence; return its source address if it has logged in within 7 days.

        Args:
            organization_id: the agent's organization.
            site: its site, if it has one.
            agent_id: the reporting agent.
            evidence: the evidence as it came; `lastLogin` is an ISO 8601 time or seconds since 1970.
            at: when the manager received it, in seconds since 1970.
        """
        file_path, last_login = evidence.get("filePath"), _moment(evidence.get("lastLogin"))
        address = None
        if isinstance(file_path, str):
            for indicator in indicators_of(organization_id, site, None, _text(evidence, "fileHash"), None):
                self.record_path(indicator, file_path, at)
        if last_login is not None:
            for indicator in indicators_of(organization_id, site, _text(evidence, "sourceIp"), None, None):
                self.record_login(indicator, agent_id, last_login, at)
                address = indicator if self.login(indicator, at) is not None else None
        return address

    def record_login(self, indicator: Indicator, agent_id: str, last_login: float, at: float) -> None:
        """Record a report's `lastLogin`: the source's last successful login on the agent's host."""
        known = self._observed.get(indicator)
        last_login = min(last_login, at)  # the agent's clock may be ahead
        if known is None or known.last_login is None or last_login > known.last_login:
            self._keep(indicator, Observed(at, last_login, agent_id, known.system_path if known else None))
        else:
            self._keep(indicator, known._replace(at=at))

    def record_path(self, indicator: Indicator, file_path: str, at: float) -> None:
        """Record a report's `filePath`: the path of the file with this hash on the agent's host."""
        if is_system_path(file_path):
            known = self._observed.get(indicator) or Observed(at, None, "", None)
            path = file_path[:_LONGEST_PATH].encode("utf-8", "backslashreplace").decode()
            self._keep(indicator, known._replace(at=at, system_path=path))

    def login(self, indicator: Indicator, now: float) -> tuple[str, float] | None:
        """Return the agent and the time of an address's last successful login, if within the last 7 days."""
        known = self._observed.get(indicator)
        if known is None or known.last_login is None or now - known.last_login > LOGIN_COUNTS_FOR:
            return None
        return known.agent_id, known.last_login

    def logins(self, now: float) -> Iterator[tuple[Indicator, str]]:
        """Yield the addresses that logged in successfully within the last 7 days, each with the agent."""
        for indicator in self._observed:
            found = self.login(indicator, now)
            if found is not None:
                yield indicator, found[0]

    def system_path(self, indicator: Indicator) -> str | None:
        """Return the system path of the file with this hash, if an agent reported one."""
        known = self._observed.get(indicator)
        return known.system_path if known else None

    def next_expiry(self) -> float | None:
        """Return the time at which the next entry is dropped."""
        first = next(iter(self._observed.values()), None)
        return first.at + _KEPT_FOR if first is not None else None

    def expire(self, now: float) -> None:
        """Drop evidence that no report has renewed for 7 days."""
        while (due := self.next_expiry()) is not None and due <= now:
            self._drop_oldest()

    def _keep(self, indicator: Indicator, observed: Observed) -> None:
        self._observed[indicator] = observed
        self._observed.move_to_end(indicator)
        self._changed(indicator, observed)
        if len(self._observed) > self._most:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        indicator, _ = self._observed.popitem(last=False)
        self._changed(indicator, None)

    def _changed(self, indicator: Indicator, observed: Observed | None) -> None:
        self._changes.pop(indicator, None)  # the order of the changes is that of the renewals
        self._changes[indicator] = observed


def _text(evidence: Mapping[str, Any], key: str) -> str | None:
    """Return a text of the evidence; a longer one is no indicator, and would stay in the cache of `indicators_of`."""
    value = evidence.get(key)
    return value if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None


def _moment(value: Any) -> float | None:
    """Return a time of the evidence in seconds since 1970; None if it is no time. Without a zone it is UTC."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
