"""The number of examples that property tests draw: all in CI and with `--long`, else a third, new ones in each run."""

import os

import pytest
from hypothesis import HealthCheck, settings

_USUAL = 25
"""The number of examples of a test that names none."""

_everything = [bool(os.environ.get("CI"))]


def pytest_configure(config: pytest.Config) -> None:
    """Draw all where everything runs; test files are read after this."""
    is_ci = bool(os.environ.get("CI"))
    _everything[0] = is_ci or bool(config.getoption("--long"))
    # A machine that is busy draws examples slowly: that says nothing about a strategy.
    for name in ("default", "ci"):
        settings.register_profile(
            name,
            settings.get_profile(name),
            deadline=None,
            max_examples=examples(_USUAL),
            suppress_health_check=[HealthCheck.too_slow],
        )
    settings.load_profile("ci" if is_ci else "default")


def examples(number: int) -> int:
    """Return how many of so many examples this run draws."""
    return number if _everything[0] else max(1, number // 3)
