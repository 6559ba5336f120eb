"""Fixtures of the brokers' contract: both brokers with a fleet, and clients of its members."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.contract.brokers import HARDENED, MOSQUITTO, Fleet, fleet_at
from tests.contract.members import Members
from tests.support.mosquitto import mosquitto_path


@pytest.fixture(scope="session")
def has_mosquitto() -> None:
    """Skip where Mosquitto is not installed; in CI that is a failure."""
    if mosquitto_path() is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed")


@pytest.fixture(scope="module", params=[HARDENED, MOSQUITTO])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give a fleet at each broker; a test says by indirect parameters where it has no claim."""
    if request.param == MOSQUITTO:
        request.getfixturevalue("has_mosquitto")
    with fleet_at(request.param, tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.fixture
def members(fleet: Fleet) -> Iterator[Members]:
    """Give what connects everybody; at the end all are gone, with stored sessions and what was retained."""
    with ExitStack() as stack:
        members = Members(fleet, stack)
        yield members
        members.clear()
