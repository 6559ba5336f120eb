"""The tests that are left to CI: which run, and what the last line says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT = "Left to CI: {} minutes. To run all: make test-all, or CI=true make test."


@pytest.fixture(scope="module")
def tests_of_both_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a directory with a test that is not long, and two files of one and two that are."""
    directory = tmp_path_factory.mktemp("kinds")
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    (directory / "test_short.py").write_text("def test_short() -> None:\n    pass\n")
    long = "import pytest\n\npytestmark = pytest.mark.long\n\n"
    (directory / "test_long.py").write_text(f"{long}def test_long() -> None:\n    pass\n")
    tests = "".join(f"def test_longer_{number}() -> None:\n    pass\n" for number in (1, 2))
    (directory / "test_longer.py").write_text(long + tests)
    return directory


def _run(directory: Path, *arguments: str, ci: str = "") -> list[str]:
    words = ["-p", "tests.support.long_tests", "-p", "xdist", "-p", "no:cacheprovider", "-vv", *arguments]
    environment = {"CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    ended = subprocess.run(  # noqa: S603 -- the tests' own runner
        [sys.executable, "-m", "pytest", *words],
        cwd=directory, env={**os.environ, **environment}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return ended.stdout.splitlines()


def _passed(lines: list[str]) -> int:
    return sum("PASSED" in line for line in lines)


@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadfile")], ids=["one", "two"])
def test_a_run_without_ci_leaves_the_long_tests_and_says_so_last(
    tests_of_both_kinds: Path, workers: tuple[str, ...]
) -> None:
    """Only the short test runs, and the last line counts each long one once, with one process and with two workers."""
    lines = _run(tests_of_both_kinds, *workers)
    assert _passed(lines) == 1
    assert lines[-1] == LEFT.format("3 tests that take")


@pytest.mark.parametrize(
    ("ci", "arguments"), [("true", ()), ("true", ("-n", "2")), ("", ("--long",)), ("", ("-m", "long or not long"))]
)
def test_nothing_is_left_out_in_ci_or_where_it_is_asked_for(
    tests_of_both_kinds: Path, ci: str, arguments: tuple[str, ...]
) -> None:
    """With CI=true, the option `--long` or a marker expression about it all four run, and no line speaks of CI."""
    lines = _run(tests_of_both_kinds, *arguments, ci=ci)
    assert _passed(lines) == 4
    assert not [line for line in lines if "Left to CI" in line]


def test_a_long_file_that_is_named_runs(tests_of_both_kinds: Path) -> None:
    """The long test of a file on the command line runs, also where it is named by its test; other files' do not."""
    lines = _run(tests_of_both_kinds, "test_long.py")
    assert _passed(lines) == 1
    lines = _run(tests_of_both_kinds, "test_longer.py::test_longer_2", "test_short.py")
    assert _passed(lines) == 2
    lines = _run(tests_of_both_kinds, f"../{tests_of_both_kinds.name}/test_long.py")
    assert _passed(lines) == 1
    lines = _run(tests_of_both_kinds, "test_long.py", str(tests_of_both_kinds))
    assert _passed(lines) == 2
    assert lines[-1] == LEFT.format("2 tests that take")


def _marks(directory: Path) -> list[tuple[Path, str]]:
    """Return each file with a mark `long`, and the shorter file that the mark names; empty where it names none."""
    mark = re.compile(r'mark\.long\b(?:\("([^"]*)"\))?')
    files = [path for path in directory.rglob("*.py") if path.name not in {Path(__file__).name, "long_tests.py"}]
    return [(path, name) for path in files for name in mark.findall(path.read_text())]


def test_each_long_file_names_a_shorter_one_that_every_run_has() -> None:
    """The file that a mark names is there, and is not marked as a whole itself."""
    marks = _marks(ROOT / "tests")
    whole = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.long", re.MULTILINE)
    long_files = {path for path, _ in marks if whole.search(path.read_text())}
    assert len(marks) > len(long_files) > 20
    assert not [(path, name) for path, name in marks if not (ROOT / name).is_file() or ROOT / name in long_files]


@pytest.mark.parametrize(("ci", "expected"), [("", 0), ("true", 1)])
def test_the_suite_obeys(ci: str, expected: int) -> None:
    """A folder's collection by the suite's own configuration has its long test where CI is true, and else not."""
    words = ["--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/faults/"]
    environment = {**os.environ, "CI": ci, "PYTEST_ADDOPTS": ""}
    ended = subprocess.run(  # noqa: S603 -- the tests' own runner
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    lines = ended.stdout.splitlines()
    assert sum("::test_a_group_of_processes_loses_and_doubles_nothing" in line for line in lines) == expected
    assert any("::test_what_was_decided_stays_decided" in line for line in lines)
    assert ("Left to CI" in lines[-1]) == (not expected)
