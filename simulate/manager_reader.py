"""Reads the manager's stored threats and incidents over its HTTP API, as an admin."""

import ssl
import time
from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import httpx2

from schemas.certificates import refusal
from simulate.address import Address
from simulate.errors import UnreachableError
from simulate.ledger import Stored, digest_of

_PAGE = 200
_ANSWER_WITHIN = 30.0
_PAUSE = 0.5
_BUSY_FROM = 500
_UNAUTHORIZED = frozenset({401, 403})


class Opened(NamedTuple):
    """An incident that was opened: its address, and the event times of its first and last report."""

    value: str
    first: datetime
    last: datetime


class Watermark(NamedTuple):
    """The ids of the newest threat and incident before the simulation, if any."""

    threat: tuple[str, str] | None
    incident: str | None
    incident_opened_at: str | None


class StoredReader(Protocol):
    """Reads what a manager has stored."""

    def mark(self) -> Watermark:
        """Return the ids of the newest threat and incident."""
        ...

    def threats(self, mark: Watermark, report_ids: Container[str], agent_ids: Container[str]) -> Iterable[Stored]:
        """Return the threats stored since the mark with one of these report ids or agents."""
        ...

    def incidents(self, mark: Watermark, addresses: frozenset[str]) -> list[Opened]:
        """Return the incidents about these addresses that were opened since the mark."""
        ...


class ManagerReader:
    """Reads threats and incidents of one manager. A context manager.

    Args:
        address: The manager's HTTP address.
        token: The admin token.
        tls: Verifies the manager's certificate; None for plain text.
        patience: Seconds for which a request is sent again that gets no answer or a server error. Before the manager
            has answered once only a refusal with Retry-After is: where nothing answers, the address is wrong.
    """

    def __init__(self, address: Address, token: str, tls: ssl.SSLContext | None, patience: float) -> None:
        self._address = address
        self._patience = patience
        self._has_answered = False
        self._client = httpx2.Client(
            base_url=str(address),
            headers={"Authorization": f"Bearer {token}"},
            timeout=_ANSWER_WITHIN,
            verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,  # ignore proxies in the environment: the simulator connects to no other address
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def mark(self) -> Watermark:
        """Return the ids of the newest threat and incident.

        Raises:
            UnreachableError: the manager does not answer, or refuses the token.
        """
        threats = self._page("/api/threats", {"limit": 1})["data"]
        incidents = self._page("/api/incidents", {"limit": 1})["data"]
        newest = incidents[0] if incidents else {}
        threat = (threats[0]["agentId"], threats[0]["id"]) if threats else None
        return Watermark(threat, newest.get("id"), newest.get("openedAt"))

    def threats(self, mark: Watermark, report_ids: Container[str], agent_ids: Container[str]) -> Iterator[Stored]:
        """Yield the threats stored since the mark with one of these report ids or agents, newest first.

        The list is in the order of storing, so no clock decides which threats belong to the simulation. A report counts
        under any agent id, because an agent that registered again has had two.

        Raises:
            UnreachableError: the manager does not answer.
        """
        for record in self._records("/api/threats", {}):
            if (record["agentId"], record["id"]) == mark.threat:
                return
            if record["id"] in report_ids or record["agentId"] in agent_ids:
                yield Stored(record["id"], digest_of(record["threat"], record["timestamp"]))

    def incidents(self, mark: Watermark, addresses: frozenset[str]) -> list[Opened]:
        """Return the incidents about these addresses that were opened since the mark, each once.

        Raises:
            UnreachableError: the manager does not answer.
        """
        query = {"kind": "source_ip", "merged": "false"}
        if mark.incident_opened_at is not None:
            query["since"] = mark.incident_opened_at
        found = {record["id"]: record for record in self._records("/api/incidents", query)}
        found.pop(mark.incident, None)
        return [
            Opened(record["value"], *(datetime.fromisoformat(record[name]) for name in ("firstSeenAt", "lastSeenAt")))
            for record in found.values()
            if record["value"] in addresses
        ]

    def _records(self, path: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self._page(path, {**query, "limit": _PAGE, **({"cursor": cursor} if cursor else {})})
            yield from page["data"]
            cursor = page.get("nextCursor")
            if cursor is None:
                return

    def _page(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        """Request a page, with retries while the manager is unreachable or another takes the lead."""
        deadline = time.monotonic() + self._patience
        while True:
            is_refusal = False
            try:
                answer = self._client.get(path, params=query)
            except httpx2.TransportError as error:
                problem = self._problem(error)
            else:
                if answer.status_code < _BUSY_FROM:
                    page = self._read(answer)
                    self._has_answered = True
                    return page
                is_refusal = "retry-after" in answer.headers
                problem = f"the manager at {self._address} answers {answer.status_code}: see its log"
            if not (self._has_answered or is_refusal) or time.monotonic() > deadline:
                raise UnreachableError(problem)
            time.sleep(_PAUSE)  # between two requests; the deadline above ends them

    def _read(self, answer: httpx2.Response) -> dict[str, Any]:
        if answer.status_code in _UNAUTHORIZED:
            raise UnreachableError(
                f"the manager at {self._address} refuses this token: the admin token is needed, in MANAGER_AUTH_TOKEN"
            )
        try:
            page = answer.json()
        except (ValueError, RecursionError):
            page = None
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise UnreachableError(f"what answers at {self._address} is no manager: check MANAGER_URL")
        return page

    def _problem(self, error: BaseException) -> str:
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ssl.SSLCertVerificationError):
                return refusal(str(self._address), seen.verify_code, seen.verify_message)
            seen = seen.__cause__ or seen.__context__
        return f"no manager answers at {self._address}: start one, or name another in MANAGER_URL"
