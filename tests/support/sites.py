"""A manager with its broker, embedded or a Mosquitto with the shipped broker.conf, both of which can be restarted.

The manager may be one of two on PostgreSQL, the one that stands by.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.migrated_store import TWO_MANAGERS, WITH_TWO, deployed
from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto

EMBEDDED, MOSQUITTO = "embedded", "mosquitto"
KINDS = [EMBEDDED, pytest.param(MOSQUITTO, marks=pytest.mark.mosquitto)]
"""What a test of both is parametrised with."""

KINDS_AND_TWO = [*KINDS, WITH_TWO]
"""The same for a test that also runs with two managers."""


class Site:
    """A running manager, and what is known of its broker.

    Args:
        manager: the manager's process.
        mosquitto: its broker; None if that is the embedded one.
    """

    def __init__(self, manager: ManagerProcess, mosquitto: ProductionMosquitto | None) -> None:
        self.manager = manager
        self.mosquitto = mosquitto

    @property
    def port(self) -> int:
        """The broker's port."""
        return int(self.manager.mqtt.rpartition(":")[2])

    def observer(self) -> tuple[str, str]:
        """Return the observer's login."""
        name, _, password = (self.manager.data / "observer.credential").read_text().strip().partition(":")
        return name, password

    def connections(self) -> int:
        """Return how often the manager has connected to its broker since its first start."""
        return self.manager.logs().count("event=broker_connected")

    def end_broker(self) -> None:
        """End the broker as a crash does, with all that it kept in memory; start it again where nobody else does."""
        if self.mosquitto is not None:
            self.mosquitto.kill()
            for kept in self.mosquitto.directory.glob("mosquitto.db*"):
                kept.unlink()
            self.mosquitto.start()
        else:
            os.kill(self._embedded().pid, signal.SIGKILL)

    def _embedded(self) -> psutil.Process:
        assert self.manager.running is not None
        children = psutil.Process(self.manager.running.process.pid).children()
        (broker,) = [child for child in children if "manager.broker_process" in child.cmdline()]
        return broker


@contextmanager
def site_at(kind: str, home: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Start a broker of a kind with its manager, or with two of them."""
    if kind == EMBEDDED:
        with ManagerProcess(home) as manager:
            yield Site(manager, None)
        return
    with ExitStack() as stack:
        if kind == TWO_MANAGERS:
            stack.enter_context(deployed(kind, request))
        broker = stack.enter_context(ProductionMosquitto(home / "manager", home / "broker"))
        manager = ManagerProcess(home, broker if kind == TWO_MANAGERS else broker.url)
        yield Site(stack.enter_context(manager), broker)
