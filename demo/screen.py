"""The demo's output: a live table on a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_COLOURS = {"online": "green", "stale": "yellow", "offline": "dim", "low": "cyan", "medium": "yellow"}
_NEWEST = 5
_LINES = 10


class Screen:
    """A context manager that displays the fleet while the demo runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None
        self._lines: list[str] = []
        self._fleet = Table()
        self._threats = Table()

    def __enter__(self) -> Self:
        """Start the live display."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live display and leave its last state on the terminal."""
        if self._live is not None:
            self._live.stop()

    def report(self, line: str) -> None:
        """Print one line about an observed step."""
        if self._live is None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        self._lines.append(line)
        self._draw()

    def show(self, agents: list[dict[str, Any]], threats: list[dict[str, Any]]) -> None:
        """Display the fleet and its newest threats."""
        if self._live is None:
            return
        self._fleet = Table("host", "agent", "state", "session", "policy", "cpu %", "memory %", title="fleet")
        for agent in agents:
            state = agent["status"] + (f" ({agent['reason']})" if agent["status"] == "stale" else "")
            self._fleet.add_row(
                Text(agent["hostname"]),
                agent["agentId"],
                Text(state, style=_COLOURS.get(agent["status"], "")),
                str(agent["session"]),
                f"{agent['policyVersion'] or '-'} {agent['policyState'] or ''}",
                _number(agent["cpu"]),
                _number(agent["memory"]),
            )
        self._threats = Table("time", "host", "type", "severity", "source", title="threats")
        for threat in threats[:_NEWEST]:
            verdict = threat["threat"]
            self._threats.add_row(
                str(threat["eventTime"])[11:19],
                Text(threat["hostname"]),
                Text(verdict["type"]),
                Text(verdict["severity"], style=_COLOURS.get(verdict["severity"], "red")),
                Text(str(verdict["evidence"].get("sourceIp", ""))),
            )
        self._draw()

    def _draw(self) -> None:
        if self._live is not None:
            story = Panel(Text("\n".join(self._lines[-_LINES:])), title="panguard demo")
            self._live.update(Group(story, self._fleet, self._threats))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
