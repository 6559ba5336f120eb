"""A damaged store: recognized in every form, called damage only then, and never made worse."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from manager.domain.instant import Instant
from manager.engine.batch import Changes
from manager.engine.engine import Engine
from manager.engine.fleet import Fleet
from manager.engine.settings import EngineSettings
from manager.errors import SetupError, StoreDamaged, StoreRejected, StoreUnavailable
from manager.storage import health as health_module
from manager.storage import tables
from manager.storage.connection import PAGE, open_store
from manager.storage.health import StoreHealth, start_errors
from manager.storage.migrate import migrate
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from schemas import topics
from schemas.keys import ManagerKeyring
from tests.support.engine import START, Bench, RecordingBrokerAccess, RecordingPublisher

REPORTS = 400
FILES = ("panguard.db", "panguard.db-wal", "panguard.db-shm")
KEYRING = ManagerKeyring(bytes(32))

Form = Callable[[Path], None]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a killed manager leaves it: agents, reports, a history, free pages, and the newest part in the WAL."""
    place = tmp_path_factory.mktemp("store")
    bench = Bench(place)
    agents = [bench.enroll(f"srv-{number}") for number in range(3)]
    for number in range(REPORTS):
        agent = agents[number % 3]
        report = agent.threat(bench.wall, f"t-{number:04}", sourceIp=f"203.0.113.{number % 200}", note="x" * 200)
        bench.put(topics.THREATS, agent.agent_id, report)
        if number % 20 == 0:
            bench.engine.step(bench.now)
        if number == REPORTS // 2:
            bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    bench.engine.step(bench.now)
    bench.database.execute_sql("CREATE TABLE filler AS SELECT * FROM threat")
    bench.database.execute_sql("DROP TABLE filler")
    copy = place / "killed"
    copy.mkdir()
    for name in FILES:
        shutil.copy(bench.directory / name, copy / name)
    bench.database.close()
    return copy


@pytest.fixture(scope="module")
def stopped(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store with everything in its file."""
    place = tmp_path_factory.mktemp("stopped")
    for name in FILES:
        shutil.copy(killed / name, place / name)
    with closing(sqlite3.connect(place / FILES[0])) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return place


def truncated(size: Callable[[int], int]) -> Form:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: size(len(data))])

    return damage


def overwritten(offset: int, data: bytes) -> Form:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        start = offset if offset >= 0 else len(content) + offset
        content[start : start + len(data)] = data
        path.write_bytes(content)

    return damage


def root_page(table: str, data: bytes) -> Form:
    """Overwrite the root page of a table or index."""
    return lambda path: overwritten((root_of(path, table) - 1) * PAGE, data)(path)


def root_of(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return int(found[0])


def freelist(data: bytes) -> Form:
    """Overwrite the first trunk page of the list of free pages."""

    def damage(path: Path) -> None:
        page = int.from_bytes(path.read_bytes()[32:36], "big")
        assert page
        overwritten((page - 1) * PAGE, data)(path)

    return damage


def on_wal(form: Form) -> Form:
    return lambda path: form(path.with_name(FILES[1]))


def swapped(one: str, other: str) -> Form:
    """Exchange the root pages of two tables."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        for table, source in ((one, other), (other, one)):
            page = root_of(path, source)
            root_page(table, data[(page - 1) * PAGE : page * PAGE])(path)

    return damage


ZEROS = bytes(PAGE)
NOISE = random.Random(7).randbytes(PAGE)  # noqa: S311 -- the same bytes each time
ROOTS = (
    "agent", "agenttable_agent_id", "agent_of_organization", "threat", "threattable_threat_id_agent_number",
    "threat_technique_event_time", "threat_source_ip", "stored_id", "agent_history", "agent_policy", "meta",
    "enrollment_token", "audit_entry", "threat_source_count", "schema_migration",
)  # fmt: skip
"""Tables and indexes whose root page is overwritten."""
IN_FILE: dict[str, Form] = {
    "empty": truncated(lambda _: 0),
    "one byte": truncated(lambda _: 1),
    "a hundred bytes": truncated(lambda _: 100),
    "one page": truncated(lambda _: PAGE),
    "half": truncated(lambda size: size // 2 // PAGE * PAGE),
    "half and a bit": truncated(lambda size: size // 2 // PAGE * PAGE + 100),
    "a page short": truncated(lambda size: size - PAGE),
    "a hundred bytes short": truncated(lambda size: size - 100),
    "magic": overwritten(0, bytes(16)),
    "page size": overwritten(16, b"\x00\x03"),
    "file format": overwritten(18, b"\x09\x09"),
    "size in pages": overwritten(28, b"\xff\xff\xff\x00"),
    "first free page": overwritten(32, b"\x00\xff\xff\xff"),
    "number of free pages": overwritten(36, b"\x00\x00\xff\xff"),
    "schema format": overwritten(44, b"\x00\x00\x00\x09"),
    "text encoding": overwritten(56, b"\x00\x00\x00\x09"),
    "header and first page": overwritten(0, NOISE),
    "schema page zeroed": overwritten(100, ZEROS[100:]),
    "schema page noise": overwritten(100, NOISE[100:]),
    "free page zeroed": freelist(ZEROS),
    "free page noise": freelist(NOISE),
    "swapped pages": swapped("agent", "threat"),
    "text": lambda path: path.write_text("this is no database\n" * 1000) and None,
    **{f"{root} zeroed": root_page(root, ZEROS) for root in ROOTS},
    **{f"{root} noise": root_page(root, NOISE) for root in ROOTS},
}
IN_WAL: dict[str, Form] = {
    "WAL magic": on_wal(overwritten(0, bytes(4))),
    "WAL salt": on_wal(overwritten(16, bytes(8))),
    "WAL header": on_wal(overwritten(0, bytes(32))),
    "WAL first frame": on_wal(overwritten(32, NOISE)),
    "WAL tenth frame": on_wal(overwritten(32 + 10 * (PAGE + 24), NOISE[:50])),
    "WAL noise": on_wal(lambda path: path.write_bytes(NOISE * (path.stat().st_size // PAGE)) and None),
    "file empty beside the WAL": truncated(lambda _: 0),
    "file noise beside the WAL": overwritten(0, NOISE),
}

HARMLESS = {"a hundred bytes short", "text encoding", "file noise beside the WAL"}
"""Forms that touch nothing that SQLite reads: the end of a free page, ignored bits, pages that the WAL has, too."""


def start(path: Path) -> int:
    """Do what a start does with the store; return the number of reports in it."""
    health = StoreHealth(path)
    with start_errors(health):
        health.check_at_start(used=True)
        with closing(open_store(path)) as database:
            tables.database.initialize(database)
            migrate(database, path)
            store = PeeweeStore(database, KEYRING.store_key, health=health)
            fleet = Fleet(KEYRING, EngineSettings())
            fleet.restore(store.load(), store.archive.live(START), START)
            engine = Engine(fleet, store, RecordingPublisher(), lambda _: None, RecordingBrokerAccess())
            engine.restore_correlation(Instant(START, 0.0))
            return len(StoreQueries(database, health).threats(limit=2 * REPORTS)[0])


def placed(source: Path, tmp_path: Path) -> Path:
    for name in FILES:
        if (source / name).exists():
            shutil.copy(source / name, tmp_path / name)
    (tmp_path / FILES[2]).unlink(missing_ok=True)
    return tmp_path / FILES[0]


def check_form(source: Path, tmp_path: Path, name: str, form: Form) -> None:
    path = placed(source, tmp_path)
    form(path)
    if name in HARMLESS:
        assert start(path) == REPORTS
        return
    damaged = {file: (tmp_path / file).read_bytes() for file in FILES[:2] if (tmp_path / file).exists()}
    with pytest.raises(SetupError, match=r"is damaged \(.*put a backup in its place"):
        start(path)
    assert {file: (tmp_path / file).read_bytes() for file in damaged} == damaged


@pytest.mark.parametrize("form", IN_FILE)
def test_each_damage_of_the_file_is_one_sentence(stopped: Path, tmp_path: Path, form: str) -> None:
    """A start names the damage and the remedy, and changes no byte."""
    check_form(stopped, tmp_path, form, IN_FILE[form])


@pytest.mark.parametrize("form", IN_WAL)
def test_each_damage_beside_a_wal_is_one_sentence(killed: Path, tmp_path: Path, form: str) -> None:
    """Committed reports that only the WAL has are never dropped in silence."""
    check_form(killed, tmp_path, form, IN_WAL[form])


def test_a_torn_last_transaction_is_no_damage(killed: Path, tmp_path: Path) -> None:
    """A crash may cut the WAL anywhere in its last transaction: that was never acknowledged."""
    path = placed(killed, tmp_path)
    on_wal(truncated(lambda size: size - 100))(path)
    assert REPORTS - 20 <= start(path) <= REPORTS


@pytest.mark.parametrize("form", ["threat zeroed", "threattable_threat_id_agent_number noise", "agent noise"])
def test_a_large_store_is_checked_beside_its_start(
    stopped: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check does not hold the start up; once it has found damage, nothing is stored."""
    monkeypatch.setattr(health_module, "SMALL", 0)
    path = placed(stopped, tmp_path)
    IN_FILE[form](path)
    health = StoreHealth(path)
    health.check_at_start(used=True)
    health.wait()
    assert "is damaged" in str(health.damage)
    with closing(open_store(path)) as database, pytest.raises(StoreDamaged):
        PeeweeStore(database, KEYRING.store_key, health=health).commit(Changes(meta={"any": "value"}))


@pytest.mark.parametrize("index", ["threattable_threat_id_agent_number", "threat_technique_event_time"])
def test_a_damaged_index_page_refuses_no_report(tmp_path: Path, index: str) -> None:
    """No report is acknowledged or refused for it, and the reason says damage; after the repair it is stored once."""
    bench = Bench(tmp_path)
    agent = bench.enroll("srv-01")
    for number in range(300):
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"t-{number:04}"))
    bench.pass_time(3)
    bench.receipts(agent)
    bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / FILES[0]
    good = path.read_bytes()
    bench.database.close()
    root_page(index, ZEROS)(path)
    bench.build()
    handle = bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-new"))
    bench.pass_time(5)
    assert handle not in bench.acknowledged
    assert bench.receipts(agent) == {"stored": [], "refused": [], "deferred": []}
    assert not bench.engine.can_commit
    assert "is damaged" in str(bench.store.health.damage)
    bench.database.close()
    path.write_bytes(good)
    bench.build()
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-new"))
    bench.pass_time(3)
    assert bench.receipts(agent)["stored"] == ["t-new"]
    assert bench.rows("SELECT count(*) FROM threat") == [(301,)]
    bench.database.close()


def test_an_error_in_a_rule_is_not_called_damage(stopped: Path, tmp_path: Path) -> None:
    """A sound store that the manager fails on is left alone by the advice, and the error says whose it is."""
    path = placed(stopped, tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO policy_revision VALUES (9, 'global', ?, 0, 'x', NULL)",
            ('{"thresholds": {"autoRespond": [1]}}',),
        )
    with capture_logs() as logs, pytest.raises(SetupError) as caught:
        start(path)
    assert "is damaged" not in str(caught.value)
    assert "leave the store as it is" in str(caught.value)
    assert [entry["event"] for entry in logs] == ["start_failed"]


def test_a_locked_store_is_neither_damaged_nor_checked(tmp_path: Path) -> None:
    """Another process that holds the store makes it unavailable, no more."""
    bench = Bench(tmp_path)
    bench.database.execute_sql("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(tmp_path / FILES[0], isolation_level=None)) as holder, capture_logs() as logs:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            bench.store.commit(Changes(meta={"any": "value"}))
        holder.execute("ROLLBACK")
    bench.store.health.wait()
    assert (bench.store.health.damage, logs) == (None, [])
    bench.store.commit(Changes(meta={"any": "value"}))
    bench.database.close()


def test_only_a_value_that_does_not_fit_is_rejected(tmp_path: Path) -> None:
    """An error that is not about a value is never a report's fault: the store is unavailable."""
    bench = Bench(tmp_path)
    for value in ("\ud800", 2**63):
        with pytest.raises(StoreRejected):
            bench.store.commit(Changes(meta={"any": value}))  # type: ignore[dict-item]  # what a driver refuses
    bench.database.execute_sql("DROP TABLE meta")
    with pytest.raises(StoreUnavailable, match="no such table"):
        bench.store.commit(Changes(meta={"any": "value"}))
    bench.store.health.wait()
    assert bench.store.health.damage is None
    bench.database.close()
