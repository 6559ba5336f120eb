"""The marker `long`: tests that take minutes run in CI, with `--long`, or where their file is named.

A pytest plugin. The tests that are left out are counted in the last line of the run, over all of its workers.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_LEFT = pytest.StashKey[int]()
_OF_A_WORKER = "tests_left_to_ci"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs every test."""
    parser.addoption("--long", action="store_true", help="run the tests that are marked long, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests, unless everything runs or somebody asked for them."""
    if os.environ.get("CI") or config.getoption("--long") or "long" in config.getoption("markexpr"):
        return
    here = config.invocation_params.dir
    named = {Path(os.path.normpath(here / argument.partition("::")[0])) for argument in config.args}
    left = [item for item in items if item.get_closest_marker("long") is not None and item.path not in named]
    if left:
        config.stash[_LEFT] = len(left)
        getattr(config, "workeroutput", {})[_OF_A_WORKER] = len(left)
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Print the number of tests that were left out, below all other lines."""
    yield
    left = session.config.stash.get(_LEFT, 0)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if left and reporter is not None:
        tests = "1 test that takes" if left == 1 else f"{left:,} tests that take"
        reporter.write_line(f"Left to CI: {tests} minutes. To run all: make test-all, or CI=true make test.")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take a worker's number; each worker has collected the same tests."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    left = getattr(node, "workeroutput", {}).get(_OF_A_WORKER, 0)
    config.stash[_LEFT] = max(left, config.stash.get(_LEFT, 0))
