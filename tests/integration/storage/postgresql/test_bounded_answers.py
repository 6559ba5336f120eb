"""Bounds of what both sides wait for: an answer that a proxy holds back, and a transaction that stands still."""

import pytest
from peewee import DatabaseError, OperationalError

from manager.storage.opening import open_migrated_store
from manager.storage.postgresql import connection
from manager.storage.postgresql.address import DatabaseAddress, database_address
from tests.support.postgresql import Postgresql
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql


@pytest.mark.parametrize("opens", [connection.open_writer, connection.open_postgresql_reader])
def test_an_answer_that_does_not_come_is_an_error(
    opens: type, postgresql_cluster: Postgresql, postgresql_address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writer and reader stop waiting on a connection that stays open, and connect anew when answers come again."""
    monkeypatch.setattr(connection, "_ANSWER", 1.0)
    port = postgresql_cluster.port
    with TcpProxy(port) as road:
        database = opens(database_address(postgresql_address.url.replace(f":{port}/", f":{road.port}/")))
        assert database.execute_sql("SELECT 1").fetchone() == (1,)
        with road.holding(to_server=False, to_client=True), pytest.raises(OperationalError, match="no answer"):
            database.execute_sql("SELECT 2")
        road.cut()
        assert database.execute_sql("SELECT 3").fetchone() == (3,)
        database.close()


def test_a_session_that_stands_still_in_a_transaction_is_ended(
    postgresql_cluster: Postgresql, postgresql_address: DatabaseAddress
) -> None:
    """A worker's after 5 s, as docs/scale.md says, the leader's after a minute; what it wrote is gone."""
    for opened, bound in (
        (connection.open_writer(postgresql_address), "5s"),
        (open_migrated_store(postgresql_address), "1min"),
    ):
        assert opened.execute_sql("SHOW idle_in_transaction_session_timeout").fetchone() == (bound,)
        opened.close()
    writer = connection.open_writer(postgresql_address, 0.1)
    (pid,) = writer.execute_sql("SELECT pg_backend_pid()").fetchone()
    writer.begin()
    writer.execute_sql("INSERT INTO meta VALUES ('left', 'behind')")
    present = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    eventually(lambda: not postgresql_cluster.execute(present, params=(pid,)), what="the session ended")
    with pytest.raises(DatabaseError, match="idle-in-transaction"):
        writer.commit()
    writer.close()
    name = postgresql_address.url.rsplit("/", 1)[1]
    assert postgresql_cluster.execute("SELECT 1 FROM meta WHERE key = 'left'", name) == []
