"""A served manager for each test, and its admin."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


@pytest.fixture
def admin(served: Served) -> Iterator[httpx2.Client]:
    with served.client() as client:
        yield client


@pytest.fixture
def terminal(served: Served) -> Terminal:
    return Terminal(served)
