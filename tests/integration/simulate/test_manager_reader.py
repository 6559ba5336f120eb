"""Reading over HTTP before and after a manager has answered once, at a server that answers from a list."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from simulate.address import Address
from simulate.errors import UnreachableError
from simulate.manager_reader import ManagerReader, Watermark

Answer = tuple[int, dict[str, str], dict[str, object]]

EMPTY: Answer = (200, {}, {"ok": True, "data": []})
NO_LEADER: Answer = (503, {"Retry-After": "2"}, {"ok": False, "error": "no manager leads just now"})
BROKEN: Answer = (500, {}, {"ok": False, "error": "internal error"})


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[Address, list[Answer]]]:
    """Serve these answers, one after another; yield the address, and the answers that nobody has asked for yet."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = left.pop(0)
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield Address.parse(f"http://127.0.0.1:{server.server_address[1]}"), left
        finally:
            server.shutdown()
            serving.join()


def test_the_first_request_waits_while_another_manager_takes_the_lead() -> None:
    """A manager that stands by says Retry-After as long as nobody leads, which ends no simulation."""
    with answering(NO_LEADER, NO_LEADER, EMPTY, EMPTY) as (address, left):
        with ManagerReader(address, "token", None, 60.0) as reader:
            assert reader.mark() == Watermark(None, None, None)
        assert left == []


def test_a_hand_over_between_two_requests_is_waited_out() -> None:
    """Once a manager has answered, each server error is retried."""
    with answering(EMPTY, BROKEN, NO_LEADER, EMPTY) as (address, left):
        with ManagerReader(address, "token", None, 60.0) as reader:
            assert reader.mark() == Watermark(None, None, None)
        assert left == []


def test_a_first_answer_that_asks_for_no_other_request_ends_the_wait_at_once() -> None:
    """An error without Retry-After is the manager's own, and its log says more."""
    with (
        answering(BROKEN, EMPTY, EMPTY) as (address, left),
        ManagerReader(address, "token", None, 60.0) as reader,
        pytest.raises(UnreachableError, match="answers 500: see its log"),
    ):
        reader.mark()
    assert left == [EMPTY, EMPTY]


def test_a_lead_that_nobody_takes_is_waited_for_no_longer_than_the_patience() -> None:
    """The error says the status."""
    with (
        answering(NO_LEADER, EMPTY) as (address, left),
        ManagerReader(address, "token", None, 0.0) as reader,
        pytest.raises(UnreachableError, match="answers 503"),
    ):
        reader.mark()
    assert left == [EMPTY]
