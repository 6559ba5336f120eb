"""`panguard manager replay`: applies other thresholds and allowlists to the stored threats and shows the difference."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.commands.config import configuration, typed_options
from manager.cli.support.counting import counted
from manager.cli.support.durations import parse_timedelta
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import DatabaseOption, DatabasePasswordFile, DataDir, Output, OutputOption
from manager.cli.support.progress import progress

if TYPE_CHECKING:
    from manager.cli.support.replay_settings import ReplaySettings
    from manager.domain.replay.outcomes import Comparison, IncidentOutcome
    from manager.settings import Settings as ManagerSettings
    from manager.storage.queries.replay_source import ReplaySource

_WARM_UP = 86_400.0
"""Seconds before `--since` that are also replayed, so that runs open at that time are known."""

_STEP = 1000
_SHOWN = 50
_COLUMNS = ("kind", "value", "organization", "site", "agents", "opened", "response", "reason")

Record = dict[str, Any]

Settings = Annotated[Path, typer.Option("--settings", help="the settings to try, JSON (see examples/replay.json)")]
Since = Annotated[str, typer.Option("--since", help="length of the replayed period up to now: 90s, 15m, 24h or 7d")]


def replay(
    context: typer.Context,
    *,
    settings: Settings,
    since: Since = "24h",
    data_dir: DataDir = None,
    database: DatabaseOption = None,
    database_password_file: DatabasePasswordFile = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replay the stored threats with other settings and print the difference to the real outcome. Nothing is sent."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.replay_settings import read_replay_settings  # noqa: PLC0415 -- the rules load with the command
    from manager.errors import StoreUnavailable  # noqa: PLC0415 -- the same

    wanted = read_replay_settings(settings)
    span, now = parse_timedelta(since).total_seconds(), datetime.now(UTC).timestamp()
    given = {"data_dir": data_dir, "database": database, "database_password_file": database_password_file}
    retained, close = _open(configuration(typed_options(context, given), None).settings)
    try:
        result = _run(retained, wanted, now - span, now)
    except StoreUnavailable as error:
        raise CommandFailed(ExitCode.FAILURE, f"{error}; start this release's manager on it once") from error
    finally:
        close()
    if output is Output.JSON:
        print_json(result)
    else:
        _print(result)


def _open(settings: "ManagerSettings") -> tuple["ReplaySource", Any]:
    from manager.errors import SetupError  # noqa: PLC0415 -- the store loads with the command
    from manager.storage.opening import open_store_reader  # noqa: PLC0415 -- the same
    from manager.storage.queries.replay_source import ReplaySource  # noqa: PLC0415 -- the same

    try:
        store = settings.store
        if isinstance(store, Path) and not store.is_file():
            sentence = f"there is no store in {settings.data_dir}: name a manager's --data-dir or --database"
            raise CommandFailed(ExitCode.NOT_FOUND, sentence)
        database = open_store_reader(store)
    except SetupError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    return ReplaySource(database), database.close


def _run(retained: "ReplaySource", wanted: "ReplaySettings", since: float, now: float) -> Record:
    from manager.domain.replay.outcomes import compare  # noqa: PLC0415 -- the same
    from manager.domain.replay.replay import Replay  # noqa: PLC0415 -- the rules load with the command

    extent = retained.extent(since - _WARM_UP)
    candidate = wanted.candidate(retained.documents(), retained.organizations(), retained.organization_response())
    run = Replay(candidate, retained.fleet(now))
    with progress("replayed threats:", extent.count) as show:
        for done, kept in enumerate(retained.threats(extent), 1):
            run.observe(kept)
            if done % _STEP == 0 or done == extent.count:
                show(done)
        run.advance(now)
    real = retained.outcomes(since)
    replayed = [outcome for outcome in run.outcomes() if outcome.last_seen_at >= since]
    return _result(extent.count, since, real, replayed, compare(real, replayed))


def _result(
    threats: int, since: float, real: list["IncidentOutcome"], replayed: list["IncidentOutcome"], found: "Comparison"
) -> Record:
    from schemas.model import iso  # noqa: PLC0415 -- pydantic takes a while to load

    return {
        "since": iso(since),
        "threats": threats,
        "wouldOpen": _records(replayed),
        "wouldBlock": _records(outcome for outcome in replayed if outcome.blocks),
        "opened": len(real),
        "blocked": sum(outcome.blocks for outcome in real),
        "difference": {
            "same": found.same,
            "onlyReal": _records(found.only_real),
            "onlyReplayed": _records(found.only_replayed),
            "changed": [{"real": _record(was), "replayed": _record(would)} for was, would in found.changed],
        },
    }


def _records(outcomes: Iterable["IncidentOutcome"]) -> list[Record]:
    return [_record(outcome) for outcome in outcomes]


def _record(outcome: "IncidentOutcome") -> Record:
    from schemas.model import iso  # noqa: PLC0415 -- pydantic takes a while to load

    return {
        "kind": outcome.indicator.kind,
        "value": outcome.indicator.value,
        "organizationId": outcome.indicator.organization_id,
        "site": outcome.indicator.site or None,
        "agentCount": outcome.agent_count,
        "openedAt": iso(outcome.opened_at),
        "lastSeenAt": iso(outcome.last_seen_at),
        "late": outcome.late,
        "chronic": outcome.chronic,
        "response": outcome.response,
        "responseReason": outcome.reason,
        "organizationWide": outcome.organization_wide,
        "entries": len(outcome.entries),
    }


def _print(result: Record) -> None:
    from manager.cli.support.printing import print_lines, print_table  # noqa: PLC0415 -- rich takes a while to load

    difference = result["difference"]
    blocked = counted(len(result["wouldBlock"]), "address or hash", "addresses and hashes")
    print_lines(
        f"Threats replayed  {result['threats']}, judged since {result['since']}",
        f"Would open        {counted(len(result['wouldOpen']), 'incident')}; really {result['opened']}",
        f"Would block       {blocked}; really {result['blocked']}",
        f"Same              {difference['same']}",
    )
    for title, records in (
        ("Would open, but did not", difference["onlyReplayed"]),
        ("Opened, but would not", difference["onlyReal"]),
    ):
        if records:
            print_lines("", f"{title}: {len(records)}")
            print_table(_COLUMNS, _rows(records))
    if difference["changed"]:
        print_lines("", f"Different response: {len(difference['changed'])}")
        both = [each for pair in difference["changed"][:_SHOWN] for each in _before_and_after(pair)]
        print_table(("", *_COLUMNS), both)


def _rows(records: list[Record]) -> Iterator[tuple[object, ...]]:
    yield from (_row(record) for record in records[:_SHOWN])
    if len(records) > _SHOWN:
        yield ("…", f"and {len(records) - _SHOWN} more: -o json shows all", *[""] * (len(_COLUMNS) - 2))


def _before_and_after(pair: Record) -> Iterator[tuple[object, ...]]:
    yield ("was", *_row(pair["real"]))
    yield ("would be", *_row(pair["replayed"]))


def _row(record: Record) -> tuple[object, ...]:
    flags = [name for name in ("late", "chronic") if record[name]]
    return (
        record["kind"],
        record["value"],
        record["organizationId"],
        record["site"],
        record["agentCount"],
        " ".join([record["openedAt"], *flags]),
        record["response"],
        record["responseReason"],
    )
