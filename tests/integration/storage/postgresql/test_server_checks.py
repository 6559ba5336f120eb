"""Checks of a server at the start and while a manager runs: poolers, encodings, read-only servers, silence."""

import queue
from collections.abc import Iterator

import psycopg
import pytest

from manager.errors import SetupError
from manager.storage.postgresql import listener, server_checks
from manager.storage.postgresql.address import DatabaseAddress, database_address
from manager.storage.postgresql.listener import Listener
from manager.storage.postgresql.server_checks import require_usable
from tests.support.pgbouncer import Pgbouncer
from tests.support.ports import free_port
from tests.support.postgresql import Postgresql
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql


@pytest.mark.pgbouncer
def test_a_pooler_that_shares_connections_is_refused(
    postgresql_cluster: Postgresql, postgresql_empty: DatabaseAddress
) -> None:
    """Behind PgBouncer in transaction mode LISTEN succeeds and hears nothing: the start says so."""
    with (
        Pgbouncer(postgresql_cluster.port, "transaction") as pooler,
        pytest.raises(SetupError, match="behind a pooler that shares connections between transactions"),
    ):
        require_usable(pooler.address(postgresql_empty))


@pytest.mark.pgbouncer
def test_a_pooler_in_session_mode_does(postgresql_cluster: Postgresql, postgresql_empty: DatabaseAddress) -> None:
    """There each connection is the client's own as long as it lasts."""
    with Pgbouncer(postgresql_cluster.port, "session") as pooler:
        require_usable(pooler.address(postgresql_empty))


def test_a_server_itself_does(postgresql_empty: DatabaseAddress) -> None:
    """Any supported server with the right encoding is taken."""
    require_usable(postgresql_empty)


def test_a_database_that_cannot_hold_every_text_is_refused(postgresql_cluster: Postgresql) -> None:
    """The sentence says how to make another."""
    postgresql_cluster.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    address = postgresql_cluster.address("latin")
    try:
        with pytest.raises(SetupError, match=r"has the encoding LATIN1.*ENCODING 'UTF8' TEMPLATE template0"):
            require_usable(address)
    finally:
        postgresql_cluster.drop(address)


def test_an_old_server_is_refused(postgresql_empty: DatabaseAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version below the lowest is named together with it."""
    monkeypatch.setattr(server_checks, "_LOWEST", 99)
    with pytest.raises(SetupError, match=r"is PostgreSQL \d+; the store needs 99 or newer"):
        require_usable(postgresql_empty)


@pytest.fixture
def stranger(postgresql_cluster: Postgresql) -> Iterator[str]:
    """Provide a user that owns nothing."""
    postgresql_cluster.execute("CREATE ROLE stranger LOGIN")
    yield "stranger"
    postgresql_cluster.execute("DROP ROLE stranger")


def test_a_user_without_rights_on_the_schema_is_refused(
    postgresql_cluster: Postgresql, postgresql_empty: DatabaseAddress, stranger: str
) -> None:
    """The sentence has the statement that gives the user the database."""
    name = postgresql_empty.url.rsplit("/", 1)[1]
    postgresql_cluster.execute("REVOKE CREATE ON SCHEMA public FROM public", name)  # the default since PostgreSQL 15
    address = database_address(postgresql_empty.url.replace("panguard@", f"{stranger}@"))
    with pytest.raises(SetupError, match=rf'schema public .*ALTER DATABASE "{name}" OWNER TO "stranger"'):
        require_usable(address)


def test_a_user_that_does_not_own_the_tables_is_refused(
    postgresql_cluster: Postgresql, postgresql_address: DatabaseAddress, stranger: str
) -> None:
    """A dump that another user restored shows before a migration fails on it."""
    name = postgresql_address.url.rsplit("/", 1)[1]
    postgresql_cluster.execute(f"ALTER DATABASE {name} OWNER TO {stranger}")
    postgresql_cluster.execute("GRANT CREATE ON SCHEMA public TO public", name)
    address = database_address(postgresql_address.url.replace("panguard@", f"{stranger}@"))
    try:
        with pytest.raises(SetupError, match="belong to panguard, not to stranger: name panguard in the URL"):
            require_usable(address)
    finally:
        postgresql_cluster.execute(f"ALTER DATABASE {name} OWNER TO panguard")


def test_a_database_that_does_not_exist_is_refused(postgresql_cluster: Postgresql) -> None:
    """The sentence says how to make it."""
    with pytest.raises(SetupError, match=r'"absent" does not exist; .*CREATE DATABASE … OWNER'):
        require_usable(postgresql_cluster.address("absent"))


def test_a_server_that_does_not_answer_is_named() -> None:
    """The sentence has the address, in one line with what to check."""
    expected = r"the database postgresql://u@127\.0\.0\.1:\d+/x cannot be opened: .*; check the host and the port"
    with pytest.raises(SetupError, match=expected):
        require_usable(database_address(f"postgresql://u@127.0.0.1:{free_port()}/x"))


def test_a_listener_hears_others_and_itself_and_listens_again_after_a_loss(
    postgresql_empty: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications arrive, also on the connection after one that was ended; each connection is announced."""
    monkeypatch.setattr(listener, "INTERVAL", 0.2)
    heard: queue.Queue[tuple[str, str]] = queue.Queue()
    listening = Listener(postgresql_empty, ["ingested"], lambda channel, text: heard.put((channel, text)))
    listening.start()
    try:
        with psycopg.connect(postgresql_empty.url, autocommit=True) as connection:
            for word in ("first", "second"):
                assert heard.get(timeout=60) == ("", "")
                connection.execute("SELECT pg_notify('ingested', %s)", (word,))
                assert heard.get(timeout=60) == ("ingested", word)
                own = listening._heard_at
                eventually(lambda own=own: listening._heard_at > own, what="the listener hears itself")  # type: ignore[misc]
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        assert listening.problem is None
    finally:
        listening.stop()


@pytest.mark.pgbouncer
def test_a_listener_behind_a_pooler_says_so(
    postgresql_cluster: Postgresql, postgresql_empty: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that stands and hears nothing is one that a pooler hands around."""
    monkeypatch.setattr(listener, "INTERVAL", 0.2)
    monkeypatch.setattr(listener, "_PATIENCE", 0.6)
    with Pgbouncer(postgresql_cluster.port, "transaction") as pooler:
        listening = Listener(pooler.address(postgresql_empty))
        listening.start()
        try:
            eventually(lambda: "behind a pooler" in (listening.problem or ""), what="the listener hears nothing")
        finally:
            listening.stop()
