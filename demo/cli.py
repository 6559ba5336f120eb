"""The command `panguard demo`."""

import json
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from demo.fleet import Fleet
    from demo.screen import Screen

HOSTS = ["web-1", "web-2", "db-1"]

_LONGEST_PARENT = 50
"""The maximum length of the temporary directory's path: the path of a Unix socket holds 107 bytes."""


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave manager and guards running until Ctrl-C.")] = False,
) -> None:
    """Start a broker, a manager and three guards on this machine, attack the guards, and show the response.

    Exits 0 only if every step was observed; the last line is JSON of the observations.
    """
    from rich.console import Console  # noqa: PLC0415 -- `panguard --help` needs none of this

    from demo.fleet import DemoError, Fleet  # noqa: PLC0415
    from demo.hosts import Hosts, simulated_because  # noqa: PLC0415
    from demo.screen import Screen  # noqa: PLC0415
    from demo.story import Story  # noqa: PLC0415

    began = time.monotonic()
    short = None if len(tempfile.gettempdir()) <= _LONGEST_PARENT else "/tmp"  # noqa: S108 -- mkdtemp makes it private
    home = Path(tempfile.mkdtemp(prefix="panguard-demo-", dir=short))
    console = Console()
    facts: dict[str, object] = {}
    problem = None
    try:
        reason = simulated_because()
        with ExitStack() as stack:
            hosts = None if reason is not None else stack.enter_context(Hosts(home, len(HOSTS)))
            fleet = stack.enter_context(Fleet(home, HOSTS, hosts))
            screen = stack.enter_context(Screen(console))
            screen.report(f"manager ready: http {fleet.http}, mqtt {fleet.mqtt}")
            screen.report(_about_enforcement(reason))
            story = Story(fleet, screen.report, screen.show)
            facts = story.facts
            story.tell()
            if keep:
                _hold(fleet, screen)
            story.farewell()
    except (DemoError, OSError) as error:
        problem = str(error)
    except KeyboardInterrupt:
        problem = "interrupted"
    if problem is not None:
        typer.echo(f"demo failed: {problem}", err=True)
    else:
        shutil.rmtree(home)
    typer.echo(json.dumps({"ok": problem is None, **facts, "seconds": round(time.monotonic() - began, 1)}))
    raise typer.Exit(0 if problem is None else 1)


def _about_enforcement(reason: str | None) -> str:
    if reason is not None:
        return f"blocks are simulated: {reason}"
    return (
        "blocks are real: each host is a network namespace with a service on port 22 and a fence; the guards' logs are"
        " written by the demo"
    )


def _hold(fleet: "Fleet", screen: "Screen") -> None:
    """Keep the fleet running and displayed until Ctrl-C."""
    data = fleet.home / "manager"
    screen.report(f"running until Ctrl-C; try in another terminal: panguard manager status --data-dir {data}")
    ended = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGINT, end)
    while not ended:
        screen.show(fleet.agents(), fleet.threats())
        time.sleep(0.5)
