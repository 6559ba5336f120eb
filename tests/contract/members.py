"""The members of a fleet as clients of its broker, by the names that the fleet has for them."""

import secrets
from contextlib import ExitStack
from typing import Any

import pytest

from schemas.topics import TABLE, Topic
from tests.contract.brokers import HARDENED, MOSQUITTO, Fleet
from tests.integration.broker.broker_clients import PahoClient, RawClient

NOT_ON_AMQTT = pytest.mark.parametrize(
    "fleet", [pytest.param(HARDENED, marks=pytest.mark.xfail(strict=True)), MOSQUITTO], indirect=True
)
"""The claim holds at Mosquitto; that amqtt breaks it is known, and would be noticed if it changed."""

NOT_ON_MOSQUITTO = pytest.mark.parametrize(
    "fleet", [HARDENED, pytest.param(MOSQUITTO, marks=pytest.mark.xfail(strict=True))], indirect=True
)
"""The same, the other way round."""


class Members:
    """Connects members of the fleet by name.

    Args:
        fleet: who is who.
        stack: disconnects them.
    """

    def __init__(self, fleet: Fleet, stack: ExitStack) -> None:
        self.fleet = fleet
        self._stack = stack
        self._run = secrets.token_hex(4)

    def client_id(self, name: str) -> str:
        """Return a client id that no other test uses."""
        return f"{name}-{self._run}"

    def join(self, who: str, name: str = "", **options: Any) -> PahoClient:
        """Return a connected client of a member; by the same name it is the same client again."""
        login = self.fleet.logins[who]
        client_id = self.client_id(name or f"{who}-{secrets.token_hex(4)}")
        client = PahoClient(self.fleet.port, client_id, username=login.username, password=login.password, **options)
        if not options.get("clean", True):
            self._stack.callback(self._forget, login.username, login.password, client_id)
        self._stack.callback(client.close)
        assert client.connect() == 0
        return client

    def raw(self, who: str, name: str, **options: Any) -> RawClient:
        """Return a raw client of a member whose CONNECT was accepted."""
        login = self.fleet.logins[who]
        client = self._stack.enter_context(RawClient(self.fleet.port))
        given = {"username": login.username, "password": login.password, **options}
        assert client.connect(self.client_id(name), **given) == 0
        return client

    def topic(self, row: Topic, who: str = "own") -> str:
        """Return a member's own topic, or that of its organization."""
        organizations = {"own": "acme", "mate": "acme", "foreign": "other"}
        identifiers = {"organizationId": organizations[who], "agentId": self.fleet.agent_ids[who]}
        return row.address(identifiers.get(row.placeholder or ""))

    def clear(self) -> None:
        """Take away what is retained on the topics of the first organization and of the manager."""
        manager = self.join("manager")
        topics = {self.topic(row, who) for row in TABLE if row.retained for who in ("own", "mate")}
        for topic in sorted(topics):
            manager.publish(topic, "", retain=True)

    def _forget(self, username: str, password: str, client_id: str) -> None:
        with PahoClient(self.fleet.port, client_id, username=username, password=password) as client:
            client.connect()
