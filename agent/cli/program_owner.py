"""Checks that nobody but root can change the program that the units run as root."""

import grp
import os
import pwd
import stat
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path

_PACKAGES = ("agent", "fence", "schemas")


def changeable() -> Iterator[str]:
    """Yield a sentence for each path of this program, interpreter and libraries that another user than root can change.

    A path that cannot be looked at counts as changeable. A directory with the sticky bit, such as /tmp, counts as
    root's own: others can neither rename nor replace what root has there.
    """
    package = Path(str(resources.files("agent"))).parent
    trees = [package / name for name in _PACKAGES]
    trees += [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    yield from changeable_paths([Path(sys.executable), *dict.fromkeys(trees)])


def changeable_paths(places: list[Path]) -> Iterator[str]:
    """Yield a sentence for each of some files and trees, and of the directories above them, that others can change."""
    told: set[Path] = set()
    for path in _paths(places):
        if path not in told:
            told.add(path)
            yield from _fault(path)


def _paths(places: list[Path]) -> Iterator[Path]:
    """Yield every path of some files and trees, what links of theirs lead to, and the directories above them."""
    for place in places:
        yield from _ways_to(place)
        for folder, names, files in os.walk(place):
            for name in (*names, *files):
                path = Path(folder, name)
                yield from _ways_to(path) if path.is_symlink() else (path,)


def _ways_to(place: Path) -> list[Path]:
    """Return a path, what it leads to, and the directories above both."""
    real = place.resolve()
    return list(dict.fromkeys((place, *place.parents, real, *real.parents)))


def _fault(path: Path) -> Iterator[str]:
    try:
        state = path.lstat()
    except OSError as error:
        yield f"{path} cannot be looked at ({error.strerror})"
        return
    if state.st_uid != 0:
        yield f"{path} belongs to {_user(state.st_uid)}"
    elif stat.S_ISLNK(state.st_mode) or (stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX):
        return
    elif state.st_mode & stat.S_IWOTH:
        yield f"{path} can be written by every user"
    elif state.st_mode & stat.S_IWGRP and _has_members(state.st_gid):
        yield f"{path} can be written by its group"


@lru_cache(maxsize=64)
def _has_members(gid: int) -> bool:
    """Return whether a group other than root's has a member; Debian's /usr/local belongs to one that has none."""
    if gid == 0:
        return False
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        return True
    return bool(members) or any(entry.pw_gid == gid for entry in pwd.getpwall())


def _user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with id {uid}"
