"""A database whose answers a proxy holds back, with its connection open."""

import pytest
from peewee import OperationalError

from manager.storage.postgresql import connection
from manager.storage.postgresql.address import DatabaseAddress, database_address
from tests.support.postgresql import Postgresql
from tests.support.tcp_proxy import TcpProxy

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
