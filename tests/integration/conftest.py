"""Real brokers for the integration tests; in CI a missing one is a failure."""

import os
from collections.abc import Iterator

import pytest

from tests.support.mosquitto import Mosquitto, mosquitto_path


@pytest.fixture
def mosquitto(request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    """Give a running Mosquitto; a test that is parametrised indirectly says with which of its options."""
    if mosquitto_path() is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed")
    with Mosquitto(**getattr(request, "param", {})) as broker:
        yield broker
