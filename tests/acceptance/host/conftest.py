"""A booted Debian under attack from a second network; in CI a host that cannot be booted is a failure.

Not with two managers: the hosts' guards know a broker's address, and no test here is about its manager.
"""

import os
from collections.abc import Iterator

import pytest

from tests.support.booted_host.machine import unavailable
from tests.support.booted_host.scene import Scene, booted


@pytest.fixture(scope="session")
def _bootable() -> None:
    reason = unavailable()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def memory() -> int | None:
    """The limit of the booted host's memory in bytes; a module may have another one."""
    return None


@pytest.fixture(scope="module")
def scene(_bootable: None, memory: int | None) -> Iterator[Scene]:
    with booted(memory) as scene:
        yield scene
