"""Root's units run only what nobody but root can change."""

import os
from pathlib import Path

import pytest

from agent.cli.program_owner import changeable_paths

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root owns a program of root's")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a tree of root's, below directories of root's."""
    (tmp_path / "opt/program/lib").mkdir(parents=True)
    (tmp_path / "opt/program/lib/code.py").write_text("")
    (tmp_path / "opt/program/link").symlink_to("lib/code.py")
    return tmp_path / "opt/program"


def test_a_tree_of_roots_has_no_fault(program: Path) -> None:
    """Also below a directory with the sticky bit, where each user owns what it makes."""
    program.parent.chmod(0o1777)
    assert list(changeable_paths([program])) == []


@pytest.mark.parametrize("name", ["lib/code.py", "lib", ".", ".."])
def test_a_file_a_directory_or_one_above_it_of_another_user_is_named(program: Path, name: str) -> None:
    """Each of them lets that user replace what root runs."""
    path = (program / name).resolve()
    os.chown(path, 10_001, 0)
    assert list(changeable_paths([program])) == [f"{path} belongs to the user with id 10001"]


@pytest.mark.parametrize(("mode", "fault"), [(0o757, "can be written by every user"), (0o775, "")])
def test_what_others_can_write_is_named(program: Path, mode: int, fault: str) -> None:
    """Root's own group may write."""
    (program / "lib").chmod(mode)
    assert list(changeable_paths([program])) == ([f"{program / 'lib'} {fault}"] if fault else [])


def test_what_a_group_with_members_can_write_is_named(program: Path) -> None:
    """A group that the host does not name may have members elsewhere."""
    os.chown(program / "lib", 0, 59_999)
    (program / "lib").chmod(0o775)
    assert list(changeable_paths([program])) == [f"{program / 'lib'} can be written by its group"]


def test_where_a_link_leads_is_looked_at(program: Path, tmp_path: Path) -> None:
    """A link of root's to a file of another user."""
    other = tmp_path / "other.py"
    other.write_text("")
    os.chown(other, 10_001, 0)
    (program / "link").unlink()
    (program / "link").symlink_to(other)
    assert list(changeable_paths([program])) == [f"{other} belongs to the user with id 10001"]


@pytest.mark.parametrize("owned", ["hops", "hops/second"])
@pytest.mark.parametrize("target", ["/hops/second", "../hops/second", "../hops/lib/../../hops/second"])
def test_each_link_on_the_way_and_its_directory_is_looked_at(
    program: Path, tmp_path: Path, owned: str, target: str
) -> None:
    """The owner of a link in the middle leads root where they like, though both ends are root's."""
    hops = tmp_path / "opt/hops"
    hops.mkdir()
    (hops / "second").symlink_to("../program/lib/code.py")
    (hops / "lib").symlink_to(program / "lib")  # the kernel goes up from where it leads to
    (program / "link").unlink()
    (program / "link").symlink_to(f"{hops.parent}{target}" if target.startswith("/") else target)
    assert list(changeable_paths([program])) == []
    os.chown(tmp_path / "opt" / owned, 10_001, 0, follow_symlinks=False)
    assert list(changeable_paths([program / "link"])) == [
        f"{tmp_path / 'opt' / owned} belongs to the user with id 10001"
    ]


def test_links_in_a_circle_end_the_walk(program: Path) -> None:
    """Nothing can be run through them."""
    (program / "a").symlink_to("b")
    (program / "b").symlink_to("a")
    assert list(changeable_paths([program])) == []


def test_the_files_of_a_directory_that_a_link_leads_to_are_looked_at(program: Path, tmp_path: Path) -> None:
    """An import follows the link; a link back up the tree is walked once."""
    (tmp_path / "elsewhere").mkdir()
    code = tmp_path / "elsewhere/code.py"
    code.write_text("")
    (program / "package").symlink_to(code.parent)
    (code.parent / "back").symlink_to(program)
    assert list(changeable_paths([program])) == []
    os.chown(code, 10_001, 0)
    assert [each.partition(" ")[2] for each in changeable_paths([program])] == ["belongs to the user with id 10001"]
