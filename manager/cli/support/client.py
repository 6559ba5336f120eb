"""HTTP client of the manager's API; every failure becomes an error message and an exit code."""

import ssl
from types import TracebackType
from typing import Any, Self

import httpx2
import typer

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.tls_trust import certificate_failure, handshake_failed
from schemas.protocol_mismatch import no_answer, no_tls

Record = dict[str, Any]

_CODES = {
    401: ExitCode.UNAUTHORIZED,
    403: ExitCode.UNAUTHORIZED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
}


_UNAUTHORIZED = 401


class ManagerClient:
    """Client of one manager, with the admin token or an access token. A context manager.

    Args:
        url: the manager's base URL.
        token: the admin token, or an access token.
        tls: TLS context that verifies the manager; None only for plain HTTP.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, url: str, token: str, tls: ssl.SSLContext | None = None, timeout: float = 15.0) -> None:
        self.url = url.rstrip("/")
        try:
            # Ignore proxies in the environment: none may see the token, and none serves a loopback address.
            self._http = httpx2.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=timeout,
                # Without TLS an empty context: loading the system's certificates takes a while.
                verify=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                trust_env=False,
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise CommandFailed(ExitCode.USAGE, f"{url} is no URL; write http://host:8443") from error

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET a path and return `data`; members of `query` that are None are omitted.

        Raises:
            CommandFailed: the manager cannot be reached, or refuses the request.
        """
        return self.answer("GET", path, query)["data"]

    def records(self, path: str, most: int | None = None, **query: Any) -> list[Record]:
        """GET all pages of a list, up to `most` records.

        Raises:
            CommandFailed: the manager cannot be reached, or refuses the request.
        """
        found: list[Record] = []
        cursor: str | None = None
        while True:
            limit = 200 if most is None else min(200, most - len(found))
            page = self.answer("GET", path, {**query, "limit": limit, "cursor": cursor})
            found += page["data"]
            cursor = page.get("nextCursor")
            if cursor is None or (most is not None and len(found) >= most):
                return found

    def first_records(self, path: str, limit: int, **query: Any) -> list[Record]:
        """GET the first records of a list, and say on standard error if there are more than `limit`.

        Raises:
            CommandFailed: as `records` raises it.
        """
        found = self.records(path, most=limit + 1, **query)
        if len(found) > limit:
            typer.echo(f"only the first {limit} are listed: --limit lists more", err=True)
        return found[:limit]

    def answer(self, method: str, path: str, query: Record | None = None, body: Any = None) -> Record:
        """Send a request and return the envelope of a successful answer.

        Raises:
            CommandFailed: the manager cannot be reached, or refuses the request.
        """
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(method, path, params=params, json=body)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise CommandFailed(ExitCode.USAGE, _no_url(self.url)) from error
        except httpx2.TransportError as error:
            raise certificate_failure(self.url, error) or self._unreachable(error) from error
        return self._envelope(answer)

    def _unreachable(self, error: httpx2.TransportError) -> CommandFailed:
        """Return the failure for an error of the connection; names a server of another protocol."""
        told = f"no manager answers at {self.url}: start one, or name another by --manager"
        if isinstance(error, httpx2.ConnectError) and handshake_failed(self.url, error):
            told = no_tls(self.url)
        elif isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError | httpx2.WriteError):
            told = no_answer(self.url)
        elif isinstance(error, httpx2.TimeoutException):
            told = f"the manager at {self.url} does not answer in time"
        return CommandFailed(ExitCode.UNREACHABLE, told)

    def _envelope(self, answer: httpx2.Response) -> Record:
        try:
            envelope = answer.json()
        except (ValueError, RecursionError):
            envelope = None
        if not isinstance(envelope, dict) or not isinstance(envelope.get("ok"), bool):
            raise CommandFailed(ExitCode.UNREACHABLE, f"the server at {self.url} is no Panguard manager")
        if envelope["ok"] and "data" in envelope:
            return envelope
        code = _CODES.get(answer.status_code, ExitCode.FAILURE)
        if answer.status_code == _UNAUTHORIZED:
            raise CommandFailed(
                code,
                f"the manager at {self.url} refuses this token: it is unknown, expired or revoked; use the admin token,"
                " or one that an admin makes: `panguard manager access create` or `access rotate`",
            )
        sentence = str(envelope.get("error", f"the manager answered {answer.status_code}"))
        if code is ExitCode.UNAUTHORIZED:
            sentence += "; use the admin token, or an access token that may do this"
        raise CommandFailed(code, sentence)


def _no_url(url: str) -> str:
    if url.startswith(("mqtt://", "mqtts://")):
        return f"{url} is a broker's URL, and commands ask the manager over HTTP: write http://host:8443 or https://"
    return f"{url} is no URL; write http://host:8443"
