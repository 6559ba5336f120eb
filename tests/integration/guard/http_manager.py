"""A small manager for the guard's HTTP tests: it keeps what it is told, and answers what a test's script says."""

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from schemas.policy import default_sections, digest_of

AGENT = "ag-00000000000000aa"


@dataclass(frozen=True)
class Asked:
    """One request: the page's name of what it is about, whose token it had, and its body."""

    about: str
    path: str
    bearer: str | None
    body: Any = None


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Script = Callable[[Asked], Reply | None]


def refusal(status: int, error: str = "no", **headers: str) -> Reply:
    return Reply(
        status, {"ok": False, "error": error}, {name.replace("_", "-"): text for name, text in headers.items()}
    )


class HttpManager:
    """Answers as a manager does, unless `script` has another answer; a context manager.

    Args:
        certificate: The paths of a certificate and its key, to be spoken to over TLS.
    """

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.asked: list[Asked] = []
        self.script: Script = lambda _asked: None
        self.token = "token-1"
        self.version = 1
        self.sections: dict[str, Any] = {}
        self.pending = False
        self.stored: dict[str, Any] = {}
        manager = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                bearer = self.headers.get("Authorization")
                reply = manager.answer(self.command, self.path, bearer and bearer.removeprefix("Bearer "), body)
                content = b"" if reply.body is None else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, text in {"Content-Length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 -- the library looks for these names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the library
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # a guard may leave at any time
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake is the handler's thread's, so that one that fails does not end the server.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def about(self, *what: str) -> list[Asked]:
        """Return what was asked about these."""
        return [asked for asked in self.asked if asked.about in what]

    def answer(self, method: str, path: str, bearer: str | None, body: Any) -> Reply:
        about = "farewell" if method == "DELETE" else "policy" if method == "GET" else path.rpartition("/")[2]
        asked = Asked(about, path, bearer, body)
        self.asked.append(asked)
        return self.script(asked) or getattr(self, f"_{about}")(asked)

    def _register(self, asked: Asked) -> Reply:
        record = {"agentId": AGENT, "hostname": asked.body["hostname"], "organizationId": "default"}
        return Reply(201, {"ok": True, "data": record, "agentId": AGENT, "token": self.token})

    def _heartbeat(self, asked: Asked) -> Reply:
        behind = self.pending and asked.body.get("policyVersion") != self.version
        return Reply(200, {"ok": True, "data": {"pendingPolicies": [self.policy()] if behind else []}})

    def _events(self, asked: Asked) -> Reply:
        ids = [threat["id"] for threat in asked.body["threats"]]
        self.stored.update(zip(ids, asked.body["threats"], strict=True))
        return Reply(200, {"ok": True, "data": {"received": len(ids), "accepted": len(ids), "eventIds": ids}})

    def _policy(self, asked: Asked) -> Reply:
        if asked.path.partition("?version=")[2] == str(self.version):
            return Reply(304)
        return Reply(200, {"ok": True, "data": self.policy()})

    def _farewell(self, _asked: Asked) -> Reply:
        return Reply(200, {"ok": True, "data": {"agentId": AGENT, "removed": True}})

    def policy(self) -> dict[str, Any]:
        document = default_sections() | self.sections
        head = {
            "version": self.version,
            "digest": digest_of(document),
            "updatedAt": "2026-01-01T00:00:00Z",
            "scope": "agent",
            "agentId": AGENT,
            "versionProof": "",
        }
        return head | document
