"""A leader on PostgreSQL, beside which tests put workers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.engine import Bench
from tests.support.ingest_worker import KEY
from tests.support.migrated_store import stores_in
from tests.support.postgresql import Postgresql


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def leader(tmp_path: Path, postgresql_cluster: Postgresql, stack: ExitStack) -> Bench:
    stack.enter_context(stores_in(postgresql_cluster))
    bench = Bench(tmp_path)
    stack.callback(bench.database.close)
    bench.fleet.life_key = KEY
    return bench
