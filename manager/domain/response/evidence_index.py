"""Index of evidence for the never-block rules: successful logins and paths of files, kept for a day, bounded."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from manager.domain.correlation import Indicator
from manager.domain.correlation.indicators import indicators_of

LOGIN_COUNTS_FOR = 7 * 86_400.0
"""Seconds after a successful login in which an address is never blocked (the design, section 3, "Responder")."""

_KEPT_FOR = 86_400.0
_MOST = 100_000

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


class _Observed(NamedTuple):
    at: float
    last_login: float | None
    agent_id: str
    system_path: str | None


class EvidenceIndex:
    """The newest login and a system path of each indicator, from reports.

    An entry is kept for a day after the last such report (reports are kept no longer), for at most 100,000 indicators;
    the least recently renewed goes first.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._observed: OrderedDict[Indicator, _Observed] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of indicators."""
        return len(self._observed)

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
            self._keep(indicator, _Observed(at, last_login, agent_id, known.system_path if known else None))
        else:
            self._keep(indicator, known._replace(at=at))

    def record_path(self, indicator: Indicator, file_path: str, at: float) -> None:
        """Record a report's `filePath`: the path of the file with this hash on the agent's host."""
        if is_system_path(file_path):
            known = self._observed.get(indicator) or _Observed(at, None, "", None)
            self._keep(indicator, known._replace(at=at, system_path=file_path))

    def login(self, indicator: Indicator, now: float) -> tuple[str, float] | None:
        """Return the agent and the time of an address's last successful login, if within the last 7 days."""
        known = self._observed.get(indicator)
        if known is None or known.last_login is None or now - known.last_login > LOGIN_COUNTS_FOR:
            return None
        return known.agent_id, known.last_login

    def system_path(self, indicator: Indicator) -> str | None:
        """Return the system path of the file with this hash, if an agent reported one."""
        known = self._observed.get(indicator)
        return known.system_path if known else None

    def expire(self, now: float) -> None:
        """Drop evidence that no report has renewed for a day."""
        while self._observed and now - next(iter(self._observed.values())).at > _KEPT_FOR:
            self._observed.popitem(last=False)

    def _keep(self, indicator: Indicator, noted: _Observed) -> None:
        self._observed[indicator] = noted
        self._observed.move_to_end(indicator)
        if len(self._observed) > self._most:
            self._observed.popitem(last=False)


def _text(evidence: Mapping[str, Any], key: str) -> str | None:
    value = evidence.get(key)
    return value if isinstance(value, str) else None


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
