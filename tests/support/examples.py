"""How many examples a property test draws: all in CI and with `--long`, and else a third, new ones in each run."""

import os

import pytest

_everything = [bool(os.environ.get("CI"))]


def pytest_configure(config: pytest.Config) -> None:
    """Draw all where everything runs; test files are read after this."""
    _everything[0] = bool(os.environ.get("CI") or config.getoption("--long"))


def examples(number: int) -> int:
    """Return how many of so many examples this run draws."""
    return number if _everything[0] else max(1, number // 3)
