"""The client of the fence's Unix socket: one JSON object a line, one connection a request."""

import json
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.errors import GuardError

DEFAULT_SOCKET = Path("/run/panguard/fence.sock")

_PATIENCE = 15.0
_ANSWER_LIMIT = 8 * 1024 * 1024
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class FenceError(GuardError):
    """The fence does not answer; the message says why."""


class FenceClient:
    """Asks the fence. Each request has its own connection, so that an idle fence can end.

    Args:
        path: The fence's socket.
        patience: Seconds to wait for an answer.
    """

    def __init__(self, path: Path = DEFAULT_SOCKET, patience: float = _PATIENCE) -> None:
        self._path = path
        self._patience = patience

    def ask(self, request: str, **members: Any) -> dict[str, Any]:
        """Return the answer to a request; see docs/fence.md for requests and answers.

        Raises:
            FenceError: there is no fence, it refuses this user, or its answer cannot be read.
        """
        line = json.dumps({"request": request, **members}, separators=(",", ":")).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._patience)
                connection.connect(str(self._path))
                connection.sendall(line)
                with connection.makefile("rb") as answers:
                    answer = answers.readline(_ANSWER_LIMIT)
        except FileNotFoundError as error:
            raise FenceError(f"no fence on this host ({self._path}): run `panguard guard install` as root") from error
        except ConnectionRefusedError as error:
            raise FenceError(f"the fence does not run ({self._path}): systemctl start panguard-fence.socket") from error
        except PermissionError as error:
            raise FenceError(f"this user may not reach the fence ({self._path})") from error
        except OSError as error:
            raise FenceError(f"the fence does not answer ({self._path}): {error.strerror or error}") from error
        if not answer:
            raise FenceError("the fence answers root and the guard's user only (guard_user in fence.conf)")
        return read_answer(answer)


def read_answer(line: bytes) -> dict[str, Any]:
    """Return an answer of the fence; its texts can be encoded.

    Raises:
        FenceError: it is no JSON object.
    """
    with suppress(ValueError, RecursionError):
        read = json.loads(line.decode())  # of bytes it would take surrogates that are not escaped, and UTF-16
        if isinstance(read, dict):
            return dict(_encodable(read)) if _ESCAPED_SURROGATE.search(line) else read
    raise FenceError("the fence's answer cannot be read")


def _encodable(value: Any) -> Any:
    """Return a JSON value with `?` for each lone surrogate: JSON can escape one, UTF-8 cannot encode it."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [_encodable(each) for each in value]
        case dict():
            return {_encodable(name): _encodable(each) for name, each in value.items()}
    return value
