"""`panguard manager protection`: the cost of automatic blocking."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.counting import counted
from manager.cli.support.durations import parse_days
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="The cost of automatic blocking.", no_args_is_help=True)


@app.callback()
def protection() -> None:
    """Keep `forecast` a word of its own, though it is the only command."""


@app.command("forecast")
@with_manager_client
def forecast(
    client: "ManagerClient",
    *,
    days: Annotated[str, typer.Option(metavar="DURATION", help="only measures of the last days, at most 30d")] = "30d",
    organization: Annotated[str | None, typer.Option(help="only this organization")] = None,
    group: Annotated[str | None, typer.Option(help="only the agents of this policy group")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count the addresses that guards block, or would block in learning, and those that turned out to be friends."""
    from manager.cli.support.printing import console, print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    period = parse_days(days, least=1, most=30)
    found = client.get("/api/protection/forecast", days=period, org_id=organization, group=group)
    if output is Output.JSON:
        print_json(found)
        return
    print_lines(*forecast_lines(found, period, console().width))


def forecast_lines(found: "Record", days: int, width: int) -> list[str]:
    """Return the summary, each further count that is not zero, and each case, in lines of at most `width` columns.

    A word is never broken, so that addresses can be copied.
    """
    from manager.cli.support.wrapping import wrapped  # noqa: PLC0415 -- rich takes a while to load

    texts = [(text, "") for text in _summary(found, days)] + [(_case(case), "  ") for case in found["cases"]]
    return [line for text, indent in texts for line in wrapped(text, width, first=indent, rest=indent + "  ")]


def _summary(found: "Record", days: int) -> list[str]:
    addresses = found["addresses"]
    period = counted(days, "day")
    if not addresses and not found["throttled"]:
        return [f"{period}: no guard reported an address that it blocked or would have blocked"]
    early = f"; {found['beforeSixthGuess'] * 100 // addresses} % before their 6th guess" if addresses else ""
    told = [f"{period}: {_blocked(found)}, {_logged_in(found)}, {_cut(found)}{early}"]
    for count, text in (
        ("throttled", "throttled only: not counted above"),
        ("guessed", "with a later login that looks like a guessed password"),
        ("lifted", "lifted by a person"),
        ("allowlisted", "covered by an allowlist entry that was in force then or later"),
    ):
        if found[count]:
            told.append(f"{found[count]:,} {text}")
    silent = found["hosts"] - found["hostsReportingLogins"]
    if silent:
        told.append(f"{silent:,} of {found['hosts']:,} hosts do not report logins: later logins there are unknown")
    return told


def _blocked(found: "Record") -> str:
    addresses, taken = found["addresses"], found["taken"]
    noun = counted(addresses, "address", "addresses")
    if taken == 0:
        return f"{noun} would have been blocked"
    if taken == addresses:
        return f"{noun} {'was' if addresses == 1 else 'were'} blocked"
    return f"{noun} were or would have been blocked ({taken:,} were)"


def _logged_in(found: "Record") -> str:
    logins = [case for case in found["cases"] if case["login"] is not None and not case["login"]["guessed"]]
    named = f" ({logins[0]['login']['user']} from {logins[0]['address']}" if logins else ""
    rest = ", …)" if found["loggedIn"] > 1 else ")"
    return f"{found['loggedIn']:,} later logged in{named + rest if named else ''}"


def _cut(found: "Record") -> str:
    unknown, addresses = found["connectionsUnknown"], found["addresses"]
    if addresses and unknown == addresses:
        return "customers cut: unknown"
    beside = f" (unknown for {unknown:,})" if unknown else ""
    return f"{found['connectionsCut']:,} customers cut{beside}"


def _case(case: "Record") -> str:
    taken = case["outcome"] == "taken"
    evidence = []
    login, lift, allowance = case["login"], case["lift"], case["allowance"]
    if login is not None:
        guessed = ", looks guessed" if login["guessed"] else ""
        evidence.append(f"{login['user']} logged in on {login['hostname']} at {login['at']}{guessed}")
    if lift is not None:
        evidence.append(f"{lift['kind']} by {lift['author']} at {lift['at']}")
    if allowance is not None:
        evidence.append(f"on the allowlist of {allowance['scope']} as {allowance['value']} added {allowance['since']}")
    if case["connections"]:
        evidence.append(f"{counted(case['connections'], 'connection')} {'' if taken else 'would have been '}cut")
    measure = f"{'' if taken else 'would have been '}blocked at guess {case['guesses']}, {case['at']}"
    return f"{case['address']} {measure}: {'; '.join(evidence)}"
