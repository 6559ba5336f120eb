"""Benchmarks measure with the best interpreter of a machine and name it."""

import sys
from itertools import permutations
from pathlib import Path

import pytest

from benchmarks.interpreter import Interpreter, best, installed, is_optimised, this

PLAIN_314 = Interpreter("a", "CPython", (3, 14, 0), optimised=False)
GOOD_311 = Interpreter("b", "CPython", (3, 11, 2), optimised=True)
GOOD_313 = Interpreter("c", "CPython", (3, 13, 1), optimised=True)


@pytest.mark.parametrize("found", list(permutations([PLAIN_314, GOOD_311, GOOD_313])))
def test_an_optimised_build_goes_before_a_newer_one_without(found: tuple[Interpreter, ...]) -> None:
    """The newest optimised build is taken, in whatever order the machine lists them."""
    assert best(found) == GOOD_313


def test_only_what_is_known_to_be_profiled_is_called_optimised() -> None:
    """The argument of configure or a distribution's prefix says so; an own build without it is none."""
    assert is_optimised("'--enable-optimizations' '--with-lto'", "/usr/local")
    assert is_optimised("'--prefix=/usr'", "/usr")
    assert not is_optimised("'--prefix=/home/a/.pyenv/versions/3.14.0'", "/home/a/.pyenv/versions/3.14.0")


def test_an_interpreter_is_printed_with_its_version_and_build() -> None:
    """The line beside a table tells whether two figures can be compared."""
    assert str(GOOD_313) == "CPython 3.13.1, optimised build"
    assert str(PLAIN_314) == "CPython 3.14.0, build without profile-guided optimisation"
    assert str(this()).startswith(f"{sys.implementation.name.replace('cp', 'CP')} {sys.version.split()[0]}")


def test_what_is_too_old_or_starts_nothing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, and one of Python 3.10, are no candidates; one that answers is."""
    answer = '#!/bin/sh\necho \'["CPython", [3, {}, 9], "--enable-optimizations", "/opt"]\'\n'
    for name, text in (
        ("python3.11", answer.format(10)),
        ("python3.13", "#!/bin/sh\nexit 1\n"),
        ("python3.14", answer.format(14)),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = [each for each in installed() if Path(each.command).parent == tmp_path]
    assert [(each.version, each.optimised) for each in found] == [((3, 14, 9), True)]
