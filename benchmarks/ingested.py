"""Threats that an engine takes in from memory, in the place of a broker, for what is measured beside or after it."""

import itertools
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

from benchmarks.http import NoBroker
from benchmarks.large_store import IN_ONE
from benchmarks.load import Sender, threat_body
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.inbox import Inbound, Inbox
from manager.engine.settings import EngineSettings
from manager.provisioning.dynamic_security import NoBrokerAccess
from manager.runtime.manager import clock
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.store import PeeweeStore
from schemas import codes
from schemas.keys import ManagerKeyring
from schemas.topics import THREATS


class Ingest:
    """Takes the place of the broker: messages of all agents in turn, encoded and coded as they come.

    Args:
        senders: the agents.
    """

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = itertools.cycle(senders)
        self._number = 0
        self._rate = 0.0
        self._fed_at = time.monotonic()

    def go(self, rate: float) -> None:
        """From now on feed so many threats a second; infinity is as many as the engine takes."""
        self._rate, self._fed_at = rate, time.monotonic()

    def feed(self, inbox: Inbox) -> None:
        """Put into the inbox what has become due, one batch at most."""
        if not self._rate:
            return
        now, moment = time.time(), time.monotonic()
        due = IN_ONE if self._rate == inf else min(IN_ONE, int((moment - self._fed_at) * self._rate))
        self._fed_at += due / self._rate
        for sender in itertools.islice(self._senders, due):
            self._number += 1
            below = THREATS.below_root(sender.agent_id)
            payload = codes.with_mac(sender.mac_key, below, threat_body(sender, self._number, now, 0.0))
            inbox.put(Inbound(THREATS, sender.agent_id, below, payload, None), time.monotonic())


def ingest(path: Path, keyring: ManagerKeyring, senders: Sequence[Sender], count: int) -> None:
    """Have an engine take in threats, over a store with these agents: correlated, responded to, committed."""
    database = open_store(path)
    tables.database.initialize(database)
    store = PeeweeStore(database, keyring.store_key)
    fleet = Fleet(keyring, EngineSettings())
    fleet.restore(store.load(), store.archive.live(clock.read().wall), clock.read().wall)
    engine = Engine(fleet, store, NoBroker(), lambda _handles: None, NoBrokerAccess())
    feed = Ingest(senders)
    feed.go(inf)
    while fleet.counters["threats_stored"] < count:
        feed.feed(engine.inbox)
        engine.step(clock.read())
    engine.stop(clock.read())
    database.close()
