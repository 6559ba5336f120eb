"""A link over HTTP: sends the requests of a `RequestQueue` one after another, in a thread of its own."""

import queue
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

import httpx2

from agent.clock import Clock
from agent.errors import GuardError
from agent.host import package_version
from agent.link.address import ManagerAddress
from agent.link.http_exchange import Answer, Request
from agent.link.link import Account, Closed, Event, Post, Will
from agent.link.request_queue import RequestQueue
from agent.link.tls import Trust
from schemas.limits import BLOCKLIST_LIMIT, POLICY_LIMIT
from schemas.protocol_mismatch import no_answer
from schemas.topics import Topic

ANSWER_WITHIN = 10.0
"""The timeout of a request in seconds; a manager that cannot commit answers 503 after 5."""

LARGEST_ANSWER = POLICY_LIMIT + BLOCKLIST_LIMIT
"""The maximum size of an answer in bytes; over HTTP a policy contains the organization's blocklist."""

# Seconds that an idle connection is kept: fewer than on servers, to avoid reuse of a connection that is being closed.
_KEPT_FOR = 3.0


class HttpDialer:
    """Dials one manager.

    Args:
        address: The manager's address.
        version: Returns the version of the policy in force, None without one.
        clock: The host's clocks.
        trust: Verifies the manager's certificate; None without TLS.
    """

    def __init__(
        self, address: ManagerAddress, version: Callable[[], int | None], clock: Clock, trust: Trust | None = None
    ) -> None:
        self._address = address
        self._version = version
        self._clock = clock
        # Without TLS the context is unused; an empty one loads no certificates into memory.
        self._tls = trust.context if trust else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trust = trust

    def __call__(self, account: Account, will: Will | None, post: Post) -> "HttpLink":
        """Start connecting; see `agent.link.link.Dialer`. HTTP has no last will; `will` is ignored."""
        del will
        headers = {"Accept-Encoding": "identity", "User-Agent": f"panguard-guard/{package_version()}"}
        if account.password:
            headers["Authorization"] = f"Bearer {account.password}"
        client = httpx2.Client(
            base_url=str(self._address),
            headers=headers,
            verify=self._tls,
            timeout=ANSWER_WITHIN,
            limits=httpx2.Limits(max_connections=1, keepalive_expiry=_KEPT_FOR),
            trust_env=False,  # ignore proxies and .netrc in the environment: they must not get the token
        )
        requests = RequestQueue(account.identifiers.get("agentId", ""), self._version)
        link = HttpLink(client, requests, self._clock, post, self._trust)
        link.begin()
        return link


class HttpLink:
    """One link; see `agent.link.link.Link`."""

    def __init__(
        self, client: httpx2.Client, requests: RequestQueue, clock: Clock, post: Post, trust: Trust | None = None
    ) -> None:
        self._client = client
        self._trust = trust
        self._requests = requests
        self._clock = clock
        self._post = post
        self._turn = threading.Condition()
        self._answered = False
        self._over = False
        self._thread = threading.Thread(target=self._work, name="link-http", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def subscribe(self, *rows: Topic) -> None:
        """Poll for the policy, if it is among the rows."""
        with self._turn:
            self._requests.subscribe(rows)
            self._turn.notify()

    def unsubscribe(self, row: Topic) -> None:
        """Do nothing: HTTP has no subscriptions."""

    def publish(self, row: Topic, payload: bytes) -> int | None:
        """Queue the request for a row of the topic table."""
        with self._turn:
            if self._over:
                return None
            number = self._requests.publish(row, payload)
            self._turn.notify()
            return number

    def close(self, patience: float = 0.0) -> None:
        """Stop the thread after the current request."""
        with self._turn:
            self._over = True
            self._turn.notify()
        self._thread.join(patience)

    def _work(self) -> None:
        with self._client:
            try:
                if self._trust is not None:
                    self._trust.fetch_wanted_ca()
                while self._step():
                    pass
            except (httpx2.HTTPError, OSError, GuardError) as error:
                self._tell([Closed(self._reason(error))])
            finally:
                self._over = True

    def _reason(self, error: Exception) -> str:
        """Return an error message; before the first answer it names a server that is no HTTP server."""
        if not self._answered and isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
            return no_answer(str(self._client.base_url).rstrip("/"))
        if self._trust is None:
            return str(error) or type(error).__name__
        return self._trust.reason(error, connecting=not self._answered)

    def _step(self) -> bool:
        """Post pending events, or send the next request, or wait for one; return whether the link is still open."""
        with self._turn:
            if self._over:
                return False
            events, request, now = self._requests.events(), None, self._clock.monotonic()
            if not events:
                request = self._requests.next(now, self._clock.wall())
                if request is None:
                    self._turn.wait(self._requests.wait(now))
                    return True
        if request is not None:
            answer = self._ask(request)
            with self._turn:
                events = self._requests.answered(request, answer, self._clock.monotonic())
        self._tell(events)
        return not any(isinstance(event, Closed) for event in events)

    def _ask(self, request: Request) -> Answer:
        deadline = self._clock.monotonic() + ANSWER_WITHIN
        declared = {"Content-Type": "application/json"} if request.body is not None else {}
        with self._client.stream(request.method, request.path, content=request.body, headers=declared) as response:
            self._answered = True
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise httpx2.ReadError(f"the answer to a {request.task} is larger than {LARGEST_ANSWER} bytes")
                if self._clock.monotonic() > deadline:
                    raise httpx2.ReadTimeout(f"the answer to a {request.task} takes more than {ANSWER_WITHIN:.0f} s")
            return Answer(response.status_code, bytes(body), _retry_after(response), _peer(response))

    def _tell(self, events: list[Event]) -> None:
        """Post events; wait while the queue is full."""
        for event in events:
            while not self._over:
                with suppress(queue.Full):
                    self._post(self, event)
                    break


def _retry_after(response: httpx2.Response) -> float:
    """Return the seconds of a Retry-After header; 0 without one, and for the date form, which is not supported."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _peer(response: httpx2.Response) -> str | None:
    stream = response.extensions.get("network_stream")
    address = None if stream is None else stream.get_extra_info("server_addr")
    return str(address[0]) if address else None
