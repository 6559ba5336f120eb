"""What holds for every test: the order of folders, and what a missing service means."""

import functools
import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer.testing

from tests.support.migrated_store import each_deployment, each_system, stores_of_one_test, system_of_the_run
from tests.support.postgresql import (
    postgresql_address,
    postgresql_cluster,
    postgresql_empty,
    postgresql_programs,
)

__all__ = [
    "each_deployment",
    "each_system",
    "postgresql_address",
    "postgresql_cluster",
    "postgresql_empty",
    "stores_of_one_test",
    "system_of_the_run",
]

pytest_plugins = ["tests.support.long_tests", "tests.support.examples"]

# pytest's workers inherit the runner's width; without it piped tables are as wide as their text.
os.environ.pop("COLUMNS", None)

# Tests start hundreds of processes, and one compiles up to 400 modules where nobody has kept their bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts what it has in the background with interrupts ignored, and so would be what a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A runner builds the tree of all commands for each call, 32 ms of CPU; it is always the same.
typer.testing._get_command = functools.cache(typer.testing._get_command)

# An exception is logged with its traceback; structlog's own rendering, with all local variables, takes up to a second.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

_SERVICES = {
    "booted": (("systemd-nspawn", "debootstrap", "nft", "ip"), "systemd-container debootstrap nftables iproute2"),
    "mosquitto": (("mosquitto", "mosquitto_sub"), "mosquitto mosquitto-clients"),
    "namespaces": (("nft", "ip"), "nftables iproute2"),
    "nginx": (("nginx",), "nginx-light"),
    "nats": (("nats-server",), "nats-server"),
    "rabbitmq": (("rabbitmq-server",), "rabbitmq-server"),
    "postgresql": (("postgres",), "postgresql"),
    "pgbouncer": (("pgbouncer",), "pgbouncer"),
    "haproxy": (("haproxy",), "haproxy"),
    "chromium": (("chromium", "chromedriver"), "chromium chromium-driver"),
}
"""The programs that a marked test needs, and the packages that have them."""


_ORDER = ("acceptance", "faults", "fuzz", "integration", "contract", "property", "unit")
"""The folders of tests, those with the longest files first: at the end of a run no worker waits for another's file."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """Collect tests without looking for garbage, and never look through them later: that was a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by folder, and a file's tests of each system or deployment behind its others.

    The last system of a file stays in force until the file ends: a test behind it that names none would run on it.
    Otherwise the random order stays.
    """
    root = Path(__file__).parent
    first: dict[Path, int] = {}
    for number, item in enumerate(items):
        first.setdefault(item.path, number)

    def place(item: pytest.Item) -> tuple[int, int, bool]:
        folder = item.path.relative_to(root).parts[0] if item.path.is_relative_to(root) else ""
        names = getattr(item, "fixturenames", ())
        on_each = "each_system" in names or "each_deployment" in names
        return _ORDER.index(folder) if folder in _ORDER else len(_ORDER), first[item.path], on_each

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is not installed, with the reason; in CI that is a failure."""
    directories = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    path = os.pathsep.join([*directories, str(postgresql_programs() or "")])
    for marker, (programs, packages) in _SERVICES.items():
        missing = [name for name in programs if shutil.which(name, path=path) is None]
        if item.get_closest_marker(marker) is None or not missing:
            continue
        reason = f"{', '.join(missing)} not installed: apt-get install {packages}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
