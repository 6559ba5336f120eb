"""Brokers and clients for the tests of the embedded broker, hardened and stock."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.broker.broker_clients import PahoClient, RawClient
from tests.integration.broker.broker_threads import BrokerThread

Connect = Callable[..., PahoClient]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "limits(**fields): the BrokerLimits of the broker under test")


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerThread]:
    """Give a running broker, hardened unless parametrised; the hardened one must leave no exception unhandled."""
    marker = request.node.get_closest_marker("limits")
    thread = BrokerThread(getattr(request, "param", "hardened"), marker.kwargs if marker else {})
    thread.start()
    yield thread
    thread.stop()
    if thread.kind == "hardened":
        assert thread.failures == []


@pytest.fixture
def connect(broker: BrokerThread) -> Iterator[Connect]:
    """Give a function that connects a paho client; all are closed at the end."""
    with ExitStack() as stack:

        def connected(client_id: str, **options: object) -> PahoClient:
            client = PahoClient(broker.port, client_id, patience=broker.patience, **options)
            stack.callback(client.close)
            if client.connect() != 0:
                raise RuntimeError("the broker refused the client")
            return client

        yield connected


@pytest.fixture
def raw(broker: BrokerThread) -> Iterator[Callable[[], RawClient]]:
    """Give a function that opens a socket to the broker; all are closed at the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(RawClient(broker.port, broker.patience))
