"""The services of a test's own group of managers: fixtures for the files that import them."""

from collections.abc import Iterator

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql


@pytest.fixture
def cluster() -> Iterator[Postgresql]:
    """Provide a durable cluster of this test's own."""
    with Postgresql() as postgresql:
        yield postgresql


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as mosquitto:
        yield mosquitto
