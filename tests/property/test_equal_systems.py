"""One history of the engine in stores of both database systems: they answer every query alike, and load alike."""

import copy
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from manager.domain.access import AccessToken, Role
from manager.domain.agents.agent import STAMP_IN_STORE
from manager.domain.console_sessions import ConsoleSession
from manager.domain.policies.fleet_policies import Scope
from manager.domain.protection.forecast import HostLogin, Lift
from manager.domain.protection.measures import ReportedMeasure, ScopedAddress
from manager.engine.batch import Changes, Recognition
from manager.engine.commands.requests import SetPolicy
from manager.engine.notifications import (
    ChannelCursor,
    Delivery,
    MuteNotifications,
    NotificationRow,
    RecordNotifications,
)
from manager.engine.ports import PruneOrder, Snapshot
from manager.storage.queries import StoreQueries
from manager.storage.sealed_values import SealedValues
from manager.storage.store import PeeweeStore
from tests.property.test_engine_histories import ADDRESSES, HISTORIES, EngineHistory
from tests.support.migrated_store import open_migrated, open_reading, stores_in
from tests.support.postgresql import Postgresql
from tests.support.store_answers import Subjects, answers, archive_answers

pytestmark = [pytest.mark.long("tests/property/test_threat_queries.py"), pytest.mark.postgresql]

_OWN = ("commit_mark", "decided_sequences", "checkpoint_")
"""The beginnings of single values that are a system's own; PostgreSQL uses no number of a deleted row again."""

_COMMIT = PeeweeStore.commit
_PRUNE = PeeweeStore.prune
TAGS = [(), ("web",), ("web", "db"), ("WEB",)]
CONTENT = '{"organization_id":"acme","severity":"high","change":"new","title":[["text","t"]],"lines":[]}'


class EqualSystems(EngineHistory):
    """A history of the engine on SQLite, whose transactions are then written to PostgreSQL."""

    cluster: Postgresql

    def __init__(self) -> None:
        self.written: list[Changes | PruneOrder] = []
        written = self.written

        def commit(store: PeeweeStore, changes: Changes) -> None:
            kept = copy.deepcopy(changes, {id(STAMP_IN_STORE): STAMP_IN_STORE})
            _COMMIT(store, changes)
            written.append(kept)

        def prune(store: PeeweeStore, order: PruneOrder) -> Any:
            written.append(order)
            return _PRUNE(store, order)

        self.patches = [patch.object(PeeweeStore, "commit", commit), patch.object(PeeweeStore, "prune", prune)]
        for each in self.patches:
            each.start()
        try:
            super().__init__()
        except BaseException:
            self.end_patches()
            raise

    def end_patches(self) -> None:
        while self.patches:
            self.patches.pop().stop()

    @rule(
        agent=st.integers(1, 2), address=st.sampled_from(ADDRESSES[:3]), ago=st.integers(0, 90_000), guess=st.booleans()
    )
    def protect(self, *, agent: int, address: str, ago: int, guess: bool) -> None:
        """Store measures, logins and lifts, as reports and commands bring them."""
        subject, at, name = ScopedAddress("acme", "", address), self.bench.wall - ago, f"m-{len(self.written)}"
        measure = ReportedMeasure(subject, agent, at, "rule", "block", ago % 7, "taken", ago % 3 or None)  # type: ignore[arg-type]
        other = measure._replace(at=at + (3 if guess else -3), outcome="would_be_taken", guesses=9)  # type: ignore[arg-type]
        self.commit(
            Changes(
                measures={(agent, name): (measure, self.bench.wall), (agent, f"{name}-b"): (other, self.bench.wall)},
                logins=[HostLogin(subject, agent, "eve", at + 5, guess)],
                login_reporters={agent: at},
                lifts=[Lift(subject, at + 9, "undo", "test")],
            )
        )

    @rule(name=st.sampled_from(["tina", "Ümit", "zoe"]), organizations=st.sampled_from([(), ("acme",)]))
    def people(self, name: str, organizations: tuple[str, ...]) -> None:
        """Store an access token, a session, a mute, and a recognition of the last report."""
        now, digest = self.bench.wall, name.encode().ljust(32)
        token = AccessToken(name, digest, Role.VIEWER, organizations, now, now, None if organizations else now + 9)
        mute = MuteNotifications(now + 900, name, "acme" if organizations else None, topic="got_in")
        key = (f"r-{self.reports}", self._any_id(self.reports))
        self.commit(
            Changes(
                access={name: token},
                sessions={name: ConsoleSession(name, digest, now, now)},
                mutes=[(mute, now)],
                recognitions={key: Recognition(now, name, None) if organizations else None},
            )
        )

    @rule(channel=st.sampled_from(["mail", "chat"]), number=st.integers(0, 5), state=st.sampled_from(list(Delivery)))
    def deliver(self, channel: str, number: int, state: Delivery) -> None:
        """Store what became of a message to a channel."""
        now = self.bench.wall
        row = NotificationRow(channel, f"n-{number}", channel, state, number, now, now + 60, None, None, CONTENT)
        self.commit(Changes(notifications=[RecordNotifications(ChannelCursor(channel, number), (row,))]))

    @rule(tags=st.sampled_from(TAGS), scope=st.sampled_from([Scope("group", "g"), Scope("organization", "acme")]))
    def policy_of_group(self, tags: tuple[str, ...], scope: Scope) -> None:
        """Set or remove the policy of a group of agents with tags, or of an organization."""
        policy = {"allowlist": {"ips": ["203.0.113.9"]}}
        document = (
            {"priority": 1, "selector": {"tagsAll": list(tags)}, "policy": policy} if scope.kind == "group" else policy
        )
        self._ask(SetPolicy(scope, document if tags or scope.kind == "organization" else None, "test"))

    @rule(ago=st.sampled_from([0, 60, 90_000]), rows=st.sampled_from([2, 100]))
    def prune(self, ago: int, rows: int) -> None:
        """Delete the oldest rows of every kind."""
        before = self.bench.wall - ago
        self.bench.store.prune(
            PruneOrder(self.bench.wall, before, 0, before, before, before, before, threats=rows, ids=0, rows=rows)
        )

    def commit(self, changes: Changes) -> None:
        self.end_fault()
        self.bench.store.commit(changes)

    def teardown(self) -> None:
        try:
            self.end_fault()
            self.bench.pass_time(5)
            self.end_patches()
            self.compare()
            super().teardown()
        finally:
            self.end_patches()

    def compare(self) -> None:
        """Write the same to PostgreSQL, and compare what both stores answer."""
        about = self.subjects()
        path = Path(self.directory.name) / "panguard.db"
        here = self.state(self.bench.store, StoreQueries(open_reading(path)), about)
        with tempfile.TemporaryDirectory() as name, stores_in(self.cluster):
            path = Path(name) / "store"
            database = open_migrated(path)
            store = PeeweeStore(database, self.bench.keyring.store_key)
            store.sealed = SealedValues(database, bytes(32))
            for each in self.written:
                if isinstance(each, PruneOrder):
                    store.prune(each)
                else:
                    store.commit(each)
            there = self.state(store, StoreQueries(open_reading(path)), about)
            store.close()
        assert here.keys() == there.keys()
        for name, answer in here.items():
            assert answer == there[name], (name, answer, there[name])

    def state(self, store: PeeweeStore, queries: StoreQueries, about: Subjects) -> dict[str, Any]:
        found = dict(answers(queries, about))
        found |= dict(archive_answers(store.archive, about))
        queries._reader._database.close()
        loaded: Snapshot = store.load()
        loaded.meta = {key: value for key, value in loaded.meta.items() if not key.startswith(_OWN)}
        keys = [(number, threat_id) for number in about.numbers for threat_id in about.threats]
        found |= {f"load {name}": value for name, value in _sorted(loaded).items()}
        return found | {"known": store.known_reports(keys)}

    def subjects(self) -> Subjects:
        """Return what the stores are asked about: everything that is in SQLite's."""

        def column(sql: str) -> list[Any]:
            return [row[0] for row in self.bench.rows(sql)]

        return Subjects(
            self.bench.wall,
            agents=column("SELECT agent_id FROM agent ORDER BY number"),
            numbers=column("SELECT number FROM agent WHERE removed_at IS NULL ORDER BY number"),
            threats=column("SELECT DISTINCT threat_id FROM threat ORDER BY threat_id")[:8],
            incidents=column("SELECT id FROM incident ORDER BY id")[:5],
            blocks=column("SELECT id FROM emergency_entry ORDER BY id")[:5],
            channels=["mail", "chat"],
            addresses=["203.0.113.1", "10.0.0.1", "198.51.100.0/24"],
            groups=["g"],
        )


def _sorted(loaded: Snapshot) -> dict[str, Any]:
    """Return the members of a state without the order of lists in which it says nothing."""
    free = {"tokens", "access", "sessions", "policies", "entries", "manual_blocks", "responses"}
    names = set(Snapshot.__dataclass_fields__) - {"timeline"}  # PostgreSQL's own
    found = {name: getattr(loaded, name) for name in names}
    return {name: sorted(value, key=repr) if name in free else value for name, value in found.items()}


@pytest.mark.timeout(max(1200, 30 * HISTORIES))
def test_both_systems_answer_alike(postgresql_cluster: Postgresql) -> None:
    """After any history every query, page, loaded state and look-up for the engine is the same on both systems."""
    EqualSystems.cluster = postgresql_cluster
    some = settings(max_examples=max(1, HISTORIES // 10), stateful_step_count=30, deadline=None)
    run_state_machine_as_test(EqualSystems, settings=some)
