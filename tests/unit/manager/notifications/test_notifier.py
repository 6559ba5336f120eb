"""The notifier: channels of the settings, their state for operators, and a store that cannot commit."""

from pathlib import Path

import pytest

from manager.errors import SetupError
from manager.notifications.engine_commands import EngineCommands
from manager.notifications.notifier import STORE_GRACE, Notifier, Sender
from manager.notifications.settings import read_channels
from manager.storage.queries import StoreQueries
from tests.support.engine import Bench
from tests.support.migrated_store import open_reading

NOW = 1_800_000_000.0


def _notifier(bench: Bench, tables: dict[str, dict[str, object]], now: list[float]) -> Notifier:
    sender = Sender("store-1", "1.0", "manager-1", lambda name: (Path(f"webhook-{name}.key"), "k" * 32))
    queries = StoreQueries(open_reading(bench.directory / "panguard.db"))
    engine = EngineCommands(lambda _command: None, lambda: None)
    return Notifier(read_channels(tables), sender, queries, engine, lambda: now[0])


def test_people_are_told_once_of_a_store_that_cannot_commit(tmp_path: Path) -> None:
    """After a minute, on the judged channels that the global policy names; a second outage is told again."""
    bench, now = Bench(tmp_path), [NOW]
    file = {"type": "file", "url": "/var/log/x.json"}
    tables: dict[str, dict[str, object]] = {
        "night": {**file, "judgement": True}, "other": {**file, "judgement": True}, "siem": file
    }  # fmt: skip
    notifier = _notifier(bench, tables, now)

    def step(problem: tuple[str, float] | None) -> list[int]:
        notifier.watch_store(problem, lambda: ["night", "siem", "unknown"])
        return [len(worker._urgent) for worker in notifier.workers.values()]

    assert step(("the disk is full", NOW)) == [0, 0, 0]
    now[0] += STORE_GRACE
    assert step(("the disk is full", NOW)) == step(("the disk is full", NOW)) == [1, 0, 0]
    assert step(None) == [1, 0, 0]
    now[0] += STORE_GRACE
    assert step(("the disk is full", NOW)) == [2, 0, 0]
    bench.database.close()


def test_an_operator_sees_where_a_channel_delivers_and_no_secret(tmp_path: Path) -> None:
    """Of a webhook the scheme, the host and the file of its key; a warning names channels that no policy names."""
    bench = Bench(tmp_path)
    hook: dict[str, object] = {"type": "webhook", "url": "https://me:s3cret@soar.example/x?token=s3cret"}
    notifier = _notifier(bench, {"soar": hook}, [NOW])
    (record,) = notifier.records()
    assert (record["destination"], record["keyFile"]) == ("https://soar.example:443", "webhook-soar.key")
    assert "s3cret" not in str(record)
    assert notifier.warnings([]) == ["the channel soar is told nothing: no policy names it in alerting.channels"]
    assert notifier.warnings(["soar"]) == []
    bench.database.close()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"type": "webhok", "url": "x"}, "[notifications.ops] type: "),
        ({"type": "webhook", "ulr": "https://s3cret"}, "there is no setting 'ulr'; did you mean url?"),
        ({"type": "webhook"}, "give url, or url_file"),
        ({"type": "webhook", "url": "https://s3cret", "url_file": "/x"}, "give url, or url_file"),
        ({"type": "webhook", "url_file": "x"}, "url_file is an absolute path"),
        ({"type": "webhook", "url_file": "/nowhere/s3cret"}, "which url_file names, cannot be read"),
        ({"type": "syslog", "url": "udp://h", "escalate_to": "ops"}, "escalate_to is for channels with judgement"),
        ({"type": "apprise", "url": "json://h", "escalate_to": "opps"}, "escalate_to names no other channel"),
        ({"type": "apprise", "url": "json://h", "digest_at": "25:00"}, "digest_at"),
        ({"type": "apprise", "url": "json://h", "time_zone": "Mars"}, "'Mars' is no time zone"),
        ({"type": "file", "url": "relative"}, "absolute path"),
    ],
)
def test_a_wrong_table_is_refused_by_name_and_quotes_no_value(
    tmp_path: Path, table: dict[str, object], sentence: str
) -> None:
    """The error says what to do; an address, which may hold a token, is not in it."""
    bench = Bench(tmp_path)
    with pytest.raises(SetupError) as refused:
        _notifier(bench, {"ops": table}, [NOW])
    assert str(refused.value).startswith("[notifications.ops]")
    assert sentence in str(refused.value)
    assert "https://s3cret" not in str(refused.value)
    bench.database.close()
