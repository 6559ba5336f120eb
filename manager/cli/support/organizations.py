"""Check of an organization's name before a command sends it: a misspelt one would be made silently."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient

AllowUnknown = Annotated[
    bool,
    typer.Option("--allow-unknown", help="take an organization that no agent, token or policy names yet"),
]

_NAMED = 10
"""The most organizations that an error names."""


def check_organization(client: "ManagerClient", name: str | None, *, allow_unknown: bool = False) -> None:
    """Check that an agent, a token or a policy names an organization; None names none.

    Raises:
        CommandFailed: none does, and `allow_unknown` is false; the error has the name that was probably meant.
    """
    if name is None or allow_unknown:
        return
    known = [str(each["organization"]) for each in client.get("/api/organizations")]
    if name in known:
        return
    from difflib import get_close_matches  # noqa: PLC0415 -- only for an error

    close = get_close_matches(name, known, 1)
    rest = ", …" if len(known) > _NAMED else ""
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known[:_NAMED])}{rest}"
    raise CommandFailed(
        ExitCode.NOT_FOUND,
        f"no agent, token or policy names organization {name} ({hint}); --allow-unknown takes it all the same",
    )
