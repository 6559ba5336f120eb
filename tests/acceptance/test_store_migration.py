"""A manager moves from its SQLite file to PostgreSQL between two starts: its guards go on, and notice a restart.

Not with two managers: the move is refused while a manager runs, and a SQLite file has only one.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from manager.storage.postgresql.address import DatabaseAddress
from tests.support.processes import GuardProcess, ManagerProcess, spooled
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/storage/postgresql/test_store_migration.py"),
    pytest.mark.postgresql,
    pytest.mark.timeout(600),
]


def migrate(manager: ManagerProcess, address: DatabaseAddress, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "panguard", "manager", "migrate", "--data-dir", str(manager.data)]
    return subprocess.run(  # noqa: S603 -- the product's own command
        [*command, "--to", address.url, *words], capture_output=True, text=True, timeout=300, check=False
    )


def test_guards_go_on_with_a_manager_whose_store_moved(tmp_path: Path, postgresql_empty: DatabaseAddress) -> None:
    """Same agents, same incidents and blocks; reports from meanwhile are stored, and the file starts no manager."""
    with ManagerProcess(tmp_path) as manager:
        guards = [GuardProcess(manager, f"host-{number}") for number in (1, 2)]
        try:
            ids = [guard.start() for guard in guards]
            for guard in guards:
                guard.attacked_by("203.0.113.7")
            eventually(lambda: manager.get("/api/incidents"), what="an incident")
            eventually(lambda: len(manager.get("/api/threats")) >= 2 and not any(map(spooled, guards)), what="reports")
            running = migrate(manager, postgresql_empty)
            assert running.returncode == 6
            assert "a manager runs on" in running.stderr
            registered = {guard.hostname: manager.agent(guard.hostname)["registeredAt"] for guard in guards}
            assert manager.stop() == 0
            guards[0].attacked_by("203.0.113.8")
            done = migrate(manager, postgresql_empty, "-o", "json")
            assert done.returncode == 0, done.stderr
            result = json.loads(done.stdout)
            assert result["moved"]
            assert {each["table"]: each["rows"] for each in result["tables"]}["agent"] == 2

            refused = manager.launch()
            eventually(lambda: refused.process.poll() is not None, what="the start on the file is refused")
            assert f"was moved to {postgresql_empty.url}" in refused.log.read_text()

            (manager.data / "manager.toml").write_text(f'database = "{postgresql_empty.url}"\n')
            manager.start()
            threats = eventually(
                lambda: manager.get("/api/threats", source="203.0.113.8"), what="the report from meanwhile"
            )
            assert len(threats) == 1
            for guard, agent_id in zip(guards, ids, strict=True):
                eventually(lambda guard=guard: manager.agent(guard.hostname)["status"] == "online", what="online again")
                assert manager.agent(guard.hostname)["id"] == agent_id
                assert manager.agent(guard.hostname)["registeredAt"] == registered[guard.hostname]
                assert guard.running is not None
                assert guard.running.process.poll() is None
            guards[1].attacked_by("203.0.113.8")
            eventually(
                lambda: [each for each in manager.get("/api/incidents") if each["value"] == "203.0.113.8"],
                what="an incident of reports from before and after",
            )
            eventually(lambda: not any(map(spooled, guards)), what="receipts")
            known = [each["id"] for each in manager.get("/api/threats")]
            assert len(known) == len(set(known))
            assert "store_lost_reports" not in (tmp_path / "manager.log").read_text()
        finally:
            for guard in guards:
                guard.stop()
