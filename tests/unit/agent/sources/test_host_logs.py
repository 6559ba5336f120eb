"""The choice of a log where the operator names none."""

import os
import time
from pathlib import Path

import pytest

from agent.clock import Clock
from agent.errors import ConfigurationError
from agent.options import Options
from agent.sources import host_logs
from agent.sources.selection import AutoSource, SourceBuilder, build_sources
from agent.sources.source import Source, SourceError
from agent.storage.database import Database
from schemas.presence import Mode


@pytest.fixture
def builder(database: Database, tmp_path: Path) -> SourceBuilder:
    return SourceBuilder(database, Clock(), 1.0, tmp_path / "no-journal")


def options(directory: Path, **given: object) -> Options:
    return Options.check(manager="mqtt://127.0.0.1", directory=directory, mode=Mode.LEARNING, **given)  # type: ignore[arg-type]


def test_the_first_readable_log_is_chosen(tmp_path: Path) -> None:
    """Without a journal it is the first file that is there; it vouches for nothing."""
    paths = [tmp_path / name for name in ("auth.log", "secure", "messages")]
    paths[1].touch()
    paths[2].touch()
    logs = host_logs.survey(tmp_path / "no-journal", paths)
    assert [log.state for log in logs] == ["missing", "missing", "ok", "ok"]
    assert host_logs.choose(logs).path == paths[1]
    assert [log.vouches for log in logs] == [True, False, False, False]


def test_nothing_to_read_says_what_was_tried(tmp_path: Path) -> None:
    """The refusal names the logs that the guard knows."""
    with pytest.raises(SourceError, match=r"none of the known logs \(journal, .*auth\.log\)") as refused:
        host_logs.choose(host_logs.survey(tmp_path / "no-journal", [tmp_path / "auth.log"]))
    assert refused.value.state == "missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_may_not_be_read_says_which_group_may(tmp_path: Path) -> None:
    """An unreadable log is named with its remedy, not taken for missing."""
    path = tmp_path / "auth.log"
    path.touch(mode=0o000)
    with pytest.raises(SourceError, match="add the guard's user to the file's group") as refused:
        host_logs.choose(host_logs.survey(tmp_path / "no-journal", [path]))
    assert refused.value.state == "unreadable"


def test_a_search_goes_on_until_there_is_a_log(tmp_path: Path, builder: SourceBuilder) -> None:
    """A guard that finds nothing at its start takes up the log that comes later."""
    found: list[Source] = []

    def build() -> Source:
        if not found:
            raise SourceError("nothing yet", "missing")
        return found[0]

    source = AutoSource(build, now=0.0)
    with pytest.raises(SourceError, match="nothing yet"):
        source.read(10, 0.0)
    assert (source.name, source.due) == ("auto", 2.0)
    path = tmp_path / "auth.log"
    path.write_text("one\n")
    found.append(builder.file(path))
    assert source.read(10, 10.0).records == ()
    assert source.looking_back  # known before the first record, which may lead to an action
    assert [record.text for record in source.read(10, source.due).records] == ["one"]
    assert source.name == f"file:{path}"
    source.close()


def test_named_logs_take_the_place_of_the_search(tmp_path: Path, builder: SourceBuilder) -> None:
    """`auto` is the default only where no log is named; what the operator trusts vouches, other files do not."""
    plain, trusted = tmp_path / "plain", tmp_path / "trusted"
    for path in (plain, trusted):
        path.write_text("one\n")
    given = options(tmp_path, logs=[plain], trusted_logs=[trusted])
    sources = build_sources(given, builder)
    vouched = {source.name: source.read(10, time.monotonic()).records[0].vouched for source in sources}
    assert vouched == {f"file:{plain}": False, f"file:{trusted}": True}
    for source in sources:
        source.close()
    assert [type(source) for source in build_sources(options(tmp_path), builder)] == [AutoSource]
    assert build_sources(options(tmp_path, watch="none"), builder) == []


def test_contradictions_are_refused(tmp_path: Path) -> None:
    """One log named twice, or `none` beside a log, is no clear wish."""
    with pytest.raises(ConfigurationError, match="named twice"):
        options(tmp_path, logs=[tmp_path / "a"], trusted_logs=[tmp_path / "a"])
    with pytest.raises(ConfigurationError, match="--watch none reads no log"):
        options(tmp_path, logs=[tmp_path / "a"], watch="none")
    assert options(tmp_path, logs=[tmp_path / "a"], watch="auto").watches_auto


def test_a_background_guard_gets_the_same_sources(tmp_path: Path) -> None:
    """The flags that `--detach` hands on name every log again."""
    given = options(tmp_path, logs=[tmp_path / "a", tmp_path / "b"], trusted_logs=[tmp_path / "c"], watch="auto")
    words = given.arguments()
    assert [word for word in words if word.startswith(str(tmp_path / "")) and len(word) == len(str(tmp_path)) + 2] == [
        str(tmp_path / name) for name in "abc"
    ]
    assert words[words.index("--watch") + 1] == "auto"
