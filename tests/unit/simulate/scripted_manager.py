"""A manager's HTTP door by script: routes answer what a test gives them, one answer after another."""

import asyncio
import json
from collections import defaultdict, deque
from typing import Any, Self

Scripted = tuple[int, dict[str, Any], dict[str, str]]


class ScriptedManager:
    """Answers 200 with empty data where nothing is scripted; `asked` holds method, path and body of each request."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self._script: defaultdict[str, deque[Scripted]] = defaultdict(deque)
        self.port = 0
        self._server: asyncio.Server | None = None

    def answer(self, tail: str, status: int, document: dict[str, Any], **headers: str) -> None:
        """Have the next request whose path ends so answered in this way."""
        self._script[tail].append((status, document, headers))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, path, _ = lines[0].split(" ")
                size = next((int(line[16:]) for line in lines if line.startswith("Content-Length: ")), 0)
                body = json.loads(await reader.readexactly(size) or b"{}")
                self.asked.append((method, path, body))
                writer.write(self._answered(path.partition("?")[0], body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answered(self, path: str, body: dict[str, Any]) -> bytes:
        tail = path.rpartition("/")[2]
        status, document, headers = (
            self._script[tail].popleft() if self._script[tail] else (200, {"ok": True, "data": {}}, {})
        )
        if tail == "events" and status == 200:
            document = {"ok": True, "data": {"accepted": len(body["threats"])}}
        if tail == "register" and not document.get("agentId"):
            document = {"ok": True, "data": {}, "agentId": "ag-0000000000000001", "token": "t"}
        raw = json.dumps(document).encode()
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} X\r\nContent-Length: {len(raw)}\r\n{extra}\r\n".encode() + raw
