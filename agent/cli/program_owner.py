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
_MOST_LINKS = 40
"""Links that the kernel follows in one path."""


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
    """Yield every path of some files and trees, the links on the way, and the directories above all of them.

    A link to a directory is followed into it: an import goes there, too.
    """
    pending, walked = list(places), set[Path]()
    while pending:
        place = pending.pop(0)
        yield from _ways_to(place)
        if not place.is_dir() or place.resolve() in walked:
            continue
        for folder, names, files in os.walk(place):
            walked.add(Path(folder).resolve())
            for name in (*names, *files):
                path = Path(folder, name)
                if not path.is_symlink():
                    yield path
                elif path.is_dir():
                    pending.append(path)
                else:
                    yield from _ways_to(path)


def _ways_to(place: Path) -> list[Path]:
    """Return a path's components as the kernel walks them: each directory, and each link on the way and its target.

    Links in a circle end the walk: nothing can be run through them.
    """
    current, ways = Path("/"), [Path("/")]
    parts = list(reversed(place.absolute().parts[1:]))
    links = 0
    while parts and links <= _MOST_LINKS:
        part = parts.pop()
        if part == "..":
            current = current.parent
            continue
        step = current / part
        ways.append(step)
        if not step.is_symlink():
            current = step
            continue
        links += 1
        target = step.readlink()
        if target.is_absolute():
            current = Path("/")
        parts += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return list(dict.fromkeys(ways))


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
