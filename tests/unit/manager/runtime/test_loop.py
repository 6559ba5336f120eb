"""The manager's loop: whatever a part raises, the next step runs."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from manager.data_directory import DataDirectory
from manager.engine.batch import Changes
from manager.errors import SetupError, StoreRejected, StoreUnavailable
from manager.runtime.loop import ManagerLoop, planned_again
from manager.runtime.transport_security import Transport
from manager.runtime.wiring import Manager
from manager.settings import Settings
from manager.storage.connection import close_store
from manager.storage.opening import open_migrated_store
from manager.storage.sealed_values import BROKER_PASSWORD, open_secrets
from manager.tls.directory import TlsDirectory
from schemas import topics
from schemas.keys import EnrollmentToken
from tests.support.engine import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def _raising(*_arguments: Any) -> None:
    raise ZeroDivisionError


def _nothing(*_arguments: Any) -> None:
    """Do nothing."""


def loop_of(
    bench: Bench, directory: DataDirectory | None, hand_over: object = None, **parts: Callable[..., Any]
) -> ManagerLoop:
    """Return a loop around a bench's engine, whose other parts do nothing unless given."""
    manager = SimpleNamespace(
        engine=bench.engine,
        mqtt=SimpleNamespace(poll=parts.get("poll", _nothing), flush=parts.get("flush", _nothing), wake=_nothing),
        mqtt_door=SimpleNamespace(tick=parts.get("tick", _nothing)),
        hand_over=hand_over,
        certificates=SimpleNamespace(check=parts.get("check", _nothing)),
        notifier=SimpleNamespace(watch_store=parts.get("watch", _nothing)),
        global_channels=list,
        batches=SimpleNamespace(observe=_nothing),
        settings=SimpleNamespace(batch_limit=500),
        transport=SimpleNamespace(ca_fingerprint=None),
        directory=directory,
    )
    return ManagerLoop(cast("Manager", manager), ExitStack())


@pytest.mark.parametrize("broken", ["poll", "flush", "tick", "check", "watch"])
def test_a_part_that_raises_does_not_end_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Link, door, certificates and notifier may raise in every step; a report is stored all the same."""
    monkeypatch.setattr("manager.runtime.loop.clock.read", lambda: bench.now)
    agent = bench.enroll("web-1")
    monkeypatch.setattr(bench.engine, "suspend_flooding", lambda _now: True)
    loop = loop_of(bench, None, **{broken: _raising})
    for number in range(3):
        handle = bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"t-{number}"))
        loop._step()
        assert handle in bench.acknowledged
    assert bench.fleet.counters["parts_failed"] == 3


def test_a_leader_beside_workers_gathers_before_it_reads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait, then reading, then the note of the batch while its messages are still to be taken."""
    monkeypatch.setattr("manager.runtime.loop.clock.read", lambda: bench.now)
    agent = bench.enroll("web-1")
    done: list[str] = []

    def poll(_seconds: float) -> None:
        done.append("read")
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall))

    gathering = SimpleNamespace(
        wait=lambda: done.append("waited"), begin=lambda _now: done.append(f"{len(bench.engine.inbox)} to take")
    )
    loop_of(bench, None, SimpleNamespace(gathering=gathering, tick=_nothing), poll=poll)._step()
    assert done == ["waited", "read", "1 to take"]
    assert bench.rows("SELECT count(*) FROM threat") == [(1,)]


def _token_file(directory: DataDirectory) -> Path:
    return directory.path / "enroll.token"


def test_a_signal_ends_the_wait_for_the_first_token(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store cannot commit it there is no token: none is written, and the withdrawn one is never stored."""
    monkeypatch.setattr("manager.runtime.loop.clock.read", lambda: bench.now)
    begin = bench.store.begin
    polls: list[None] = []

    def unavailable() -> None:
        raise StoreUnavailable("the disk is full")

    def poll(_seconds: float) -> None:
        polls.append(None)
        if len(polls) == 3:
            loop._stop(signal.SIGTERM, None)
        assert len(polls) < 10, "the loop goes on after the signal"

    with DataDirectory(tmp_path / "data") as directory:
        loop = loop_of(bench, directory, poll=poll)
        bench.store.begin = unavailable  # type: ignore[method-assign]
        assert not loop._prepare_enrollment_token()
        assert not _token_file(directory).exists()
    bench.store.begin = begin  # type: ignore[method-assign]
    bench.pass_time(2)
    assert bench.rows("SELECT count(*) FROM enrollment_token") == [(0,)]


def test_a_first_token_that_the_store_rejects_is_an_error_and_no_file(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager does not start, and says why; the next start creates a token, and it is good."""
    monkeypatch.setattr("manager.runtime.loop.clock.read", lambda: bench.now)
    commit = bench.store.commit

    def rejecting(changes: Changes) -> None:
        if changes.tokens:
            raise StoreRejected("it does not fit")
        commit(changes)

    with DataDirectory(tmp_path / "data") as directory:
        loop = loop_of(bench, directory)
        bench.store.commit = rejecting  # type: ignore[method-assign]
        with pytest.raises(SetupError, match=r"first enrollment token cannot be stored: .*it does not fit"):
            loop._prepare_enrollment_token()
        assert not _token_file(directory).exists()
        bench.store.commit = commit  # type: ignore[method-assign]
        assert loop._prepare_enrollment_token()
        assert EnrollmentToken.parse(_token_file(directory).read_text("utf-8").strip()).token_id in bench.fleet.tokens


def test_a_start_without_the_file_makes_another_token(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed by an operator, or lost by an early end: the first token stays good, and keeps its name."""
    monkeypatch.setattr("manager.runtime.loop.clock.read", lambda: bench.now)
    with DataDirectory(tmp_path / "data") as directory:
        loop = loop_of(bench, directory)
        assert loop._prepare_enrollment_token()
        first = EnrollmentToken.parse(_token_file(directory).read_text("utf-8").strip())
        _token_file(directory).unlink()
        assert loop._prepare_enrollment_token()
        other = EnrollmentToken.parse(_token_file(directory).read_text("utf-8").strip())
    names = {token_id: token.name for token_id, token in bench.fleet.tokens.items()}
    assert (names[first.token_id], names[other.token_id]) == ("first", None)


def test_a_foreign_signing_key_is_among_the_warnings(tmp_path: Path) -> None:
    """Operators are told of it by the wired manager while an agent states it, and no longer."""
    settings = Settings(data_dir=tmp_path, port=0, mqtt_port=0)
    with ExitStack() as stack:
        directory = stack.enter_context(DataDirectory(tmp_path))
        manager = Manager(settings, Transport.plan(settings), directory, stack)
        stack.callback(manager.mqtt_door.close)
        manager._fleet.trusted_keys.record("ag-1", "A" * 43, is_known=False)
        assert any("stated by ag-1" in each for each in manager._warnings())
        manager._fleet.trusted_keys.forget("ag-1")
        assert not any("stated by" in each for each in manager._warnings())


def test_a_manager_that_leads_again_uses_the_broker_password_of_its_successor(tmp_path: Path) -> None:
    """Without the file of `broker init` it takes what is sealed now, and seals nothing of its first leadership."""
    settings = Settings(data_dir=tmp_path, port=0, broker="mqtt://127.0.0.1:1")
    with DataDirectory(tmp_path) as directory:
        for sealed in ("first", "second"):
            _seal(directory, sealed)  # as another manager does that has the file
            with ExitStack() as stack:
                manager = Manager(settings, Transport.plan(settings), directory, stack)
                stack.callback(manager.mqtt_door.close)
                assert manager.mqtt_door.link._password() == sealed
            assert _sealed(directory) == sealed
        (tmp_path / "broker.password").write_text("third\n")
        with ExitStack() as stack:
            manager = Manager(settings, Transport.plan(settings), directory, stack)
            stack.callback(manager.mqtt_door.close)
            assert manager.mqtt_door.link._password() == "third"
        assert _sealed(directory) == "third"


def _seal(directory: DataDirectory, text: str) -> None:
    database = open_migrated_store(directory.store)
    open_secrets(database, directory.key_file, directory.store).values.keep_text(BROKER_PASSWORD, text)
    close_store(database)


def _sealed(directory: DataDirectory) -> str | None:
    database = open_migrated_store(directory.store)
    sealed = open_secrets(database, directory.key_file, directory.store).values.keep_text(BROKER_PASSWORD, None)
    close_store(database)
    return sealed


def test_a_manager_that_leads_again_has_the_authority_of_now(tmp_path: Path) -> None:
    """Its fingerprint is in the enrollment token of all managers; files that cannot be used change nothing."""
    settings = Settings(data_dir=tmp_path)
    certificates = TlsDirectory(tmp_path)
    certificates.init((), datetime.now(UTC))
    before = Transport.plan(settings)
    certificates.path.rename(tmp_path / "tls.before")
    certificates.init((), datetime.now(UTC))
    now = planned_again(settings, before)
    authority = certificates.authority()
    assert authority is not None
    assert before.ca_fingerprint != now.ca_fingerprint == authority.fingerprint
    certificates.key("http").write_text("no key")
    assert planned_again(settings, now) is now
