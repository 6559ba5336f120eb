"""A manager with its broker, embedded or a Mosquitto with the shipped broker.conf, both of which can be restarted."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ManagerProcess
from tests.support.production_mosquitto import ProductionMosquitto

EMBEDDED, MOSQUITTO = "embedded", "mosquitto"
KINDS = [EMBEDDED, pytest.param(MOSQUITTO, marks=pytest.mark.mosquitto)]
"""What a test of both is parametrised with."""


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
        return (self.manager.home / "manager.log").read_text().count("event=broker_connected")

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
def site_at(kind: str, home: Path, environment: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Start a broker of a kind with its manager."""
    if kind == EMBEDDED:
        with ManagerProcess(home, environment=environment) as manager:
            yield Site(manager, None)
        return
    with (
        ProductionMosquitto(home / "manager", home / "broker") as broker,
        ManagerProcess(home, broker.url, environment) as manager,
    ):
        yield Site(manager, broker)
