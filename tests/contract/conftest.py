"""What the contract of brokers needs: a real Mosquitto, which in CI must be there."""

import os

import pytest

from tests.support.mosquitto import mosquitto_path


@pytest.fixture(scope="session")
def has_mosquitto() -> None:
    """Skip where Mosquitto is not installed; in CI that is a failure."""
    if mosquitto_path() is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed")
