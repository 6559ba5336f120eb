"""Feeds threats to an engine from memory, without a broker, for measurements beside or after it."""

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
from manager.runtime import clock
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.store import PeeweeStore
from schemas import message_codes
from schemas.keys import ManagerKeyring
from schemas.topics import THREATS


class Ingest:
    """Feeds messages of all agents in turn; each is encoded and authenticated when it is fed.

    Args:
        senders: the agents.
    """

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = itertools.cycle(senders)
        self._number = 0
        self._rate = 0.0
        self._fed_at = time.monotonic()

    def go(self, rate: float) -> None:
        """Set the threats a second; infinity is as many as the engine takes."""
        self._rate, self._fed_at = rate, time.monotonic()

    def feed(self, inbox: Inbox) -> None:
        """Put the due messages into the inbox, one batch at most; each has the time of it as its handle."""
        if not self._rate:
            return
        now, moment = time.time(), time.monotonic()
        due = IN_ONE if self._rate == inf else min(IN_ONE, int((moment - self._fed_at) * self._rate))
        self._fed_at += due / self._rate
        for sender in itertools.islice(self._senders, due):
            self._number += 1
            below = THREATS.below_root(sender.agent_id)
            payload = message_codes.with_mac(sender.mac_key, below, threat_body(sender, self._number, now, 0.0))
            put_at = time.monotonic()
            inbox.put(Inbound(THREATS, sender.agent_id, below, payload, put_at), put_at)


def ingest(path: Path, keyring: ManagerKeyring, senders: Sequence[Sender], count: int) -> float:
    """Run an engine over a store with these agents until it has committed `count` threats.

    Returns:
        The CPU seconds from the first message on, feeding included.
    """
    database = open_store(path)
    tables.database.initialize(database)
    store = PeeweeStore(database, keyring.store_key)
    fleet = Fleet(keyring, EngineSettings())
    fleet.restore(store.load(), store.archive.live(clock.read().wall), clock.read().wall)
    engine = Engine(fleet, store, NoBroker(), lambda _handles: None, NoBrokerAccess())
    feed = Ingest(senders)
    feed.go(inf)
    engine.restore_correlation(clock.read())
    began = time.process_time()
    while fleet.counters["threats_stored"] < count:
        feed.feed(engine.inbox)
        engine.step(clock.read())
    engine.stop(clock.read())
    used = time.process_time() - began
    database.close()
    return used
