"""The order of tests: one that names no deployment does not run on the last one of its file."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFTEST = '''
import pytest
from tests.conftest import each_deployment, pytest_collection_modifyitems, stores_of_one_test, system_of_the_run


@pytest.fixture(scope="session")
def postgresql_cluster() -> None:
    """None: the tests make no store."""
'''
TESTS = '''
import pytest
from tests.support.migrated_store import has_two_managers


@pytest.mark.usefixtures("each_deployment")
def test_of_each() -> None:
    """Runs with one manager, and with two."""


def test_of_none() -> None:
    """Names no deployment: one manager."""
    assert not has_two_managers()
'''


def test_a_test_that_names_no_deployment_runs_before_those_of_each(tmp_path: Path) -> None:
    """Behind them the two managers of the test before it would be in force."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_made.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = \n  long\n  postgresql\n  mosquitto\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PANGUARD_TEST_SYSTEM", None)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout
