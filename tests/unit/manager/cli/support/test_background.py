"""The words of a manager that did not start in the background."""

from pathlib import Path

import pytest

from manager.cli.support import background

LOG = [
    "timestamp=2026-01-31T12:00:00.000000Z level=info event=store_migrated migration=0001_initial",
    "timestamp=2026-01-31T12:00:00.100000Z level=warning event=clock_not_trusted",
]
TAKEN = "port 1883 on 127.0.0.1 was still taken after 10 s"


@pytest.mark.parametrize(("reason", "told"), [([f"error: {TAKEN}"], LOG[1:]), ([], LOG)])
def test_routine_before_a_reason_is_left_to_the_log(
    reason: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a reason all that there is may help."""
    failed = background._failure(77, 1, [*LOG, *reason], Path("data"))

    assert capsys.readouterr().err.splitlines() == told
    assert str(failed) == (
        f"{TAKEN} (its log is data/manager.log)" if reason else "the manager ended with code 1; see data/manager.log"
    )
