"""Lists on terminals of 80 and 140 columns, with a fleet of 322 cloud hostnames."""

import pytest

from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.attacks import ATTACKER, attack, trusted

_LISTS = {
    ("blocks", "list"): ("id", "value"),
    ("incidents", "list"): ("id", "value"),
    ("threats", "list"): ("id",),
    ("tokens", "list"): ("tokenId",),
    ("access", "list"): ("name",),
    ("audit", "list"): ("target",),
}
"""The members of each list's records that a table prints whole."""


def test_ids_and_addresses_stay_whole_at_any_width(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is one line with its whole id and address, and no line is longer than the terminal."""
    with served.bench() as bench:
        token = bench.token()
        names = [f"ip-10-{n // 256}-{n % 256}-17.eu-central-1.compute.internal" for n in range(322)]
        for name in names[3:]:
            bench.enroll(name, token)
        attack(bench, *trusted(bench, *names[:3]))
    terminal.ok("blocks", "add", "2001:db8:1234:5678:9abc:def0:1234:5678", "--reason", "scans our mail servers")
    terminal.ok("blocks", "add", "198.51.100.200", "--agent", names[0])
    terminal.ok("access", "create", "--name", "prometheus", "--role", "metrics")
    terminal.ok("tokens", "create", "--name", "web-servers", "--uses", "5")
    for command, members in _LISTS.items():
        records = terminal.records(*command)
        assert records
        for width in (80, 140):
            monkeypatch.setenv("COLUMNS", str(width))
            rows = terminal.ok(*command).splitlines()[1 : len(records) + 1]
            assert max(map(len, rows)) <= width, command
            for record, line in zip(records, rows, strict=True):
                for member in members:
                    assert str(record[member] or "-") in line.split(), (command, member, line)


def test_a_details_table_is_as_wide_as_columns_says(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal too, `COLUMNS` is the width of the table of one block."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b", "c"))
    monkeypatch.setenv("COLUMNS", "80")
    shown = terminal.ok("blocks", "list", "--value", ATTACKER).splitlines()
    assert max(len(line.rstrip()) for line in shown) <= 80


def test_mode_and_enforcement_are_shown_at_80_columns(
    served: Served, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode and enforcement come before the other columns, which a narrow terminal leaves out first."""
    served.enroll("web-1")
    monkeypatch.setenv("COLUMNS", "80")
    heading = terminal.ok("agents", "list").splitlines()[0]
    assert "mode" in heading
    assert "enforcement" in heading
