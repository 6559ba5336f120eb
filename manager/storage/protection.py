"""Stores reported measures, logins at hosts, and lifts of blocks with each batch, and prunes them."""

from manager.domain.protection.forecast import HostLogin, Lift
from manager.domain.retention import HOUR
from manager.engine.batch import Changes
from manager.storage.statements import Statements

LOGINS_OF_AGENT = 2_000
"""The maximum number of logins kept of one agent; the oldest goes first."""


class StoredProtection:
    """Writes the tables of the forecast in the writer's transaction.

    Args:
        statements: those of the writer's database.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def write(self, changes: Changes) -> None:
        """Write measures, logins, agents that report logins, and lifts."""
        write = self._statements.execute_many
        if changes.measures:
            write(
                "protection.insert_measure",
                [
                    (*each.subject, each.agent_number, each.at, received_at, *each[3:])
                    for each, received_at in changes.measures.values()
                ],
            )
        if changes.login_reporters:
            write("protection.insert_reporter", changes.login_reporters.items())
        if changes.logins:
            write("protection.upsert_login", [_login_row(each) for each in changes.logins])
            agents = {each.agent_number for each in changes.logins}
            write("protection.limit_logins", [(agent, LOGINS_OF_AGENT) for agent in agents])
        if changes.lifts:
            write("protection.insert_lift", [_lift_row(each) for each in changes.lifts])

    def prune(self, before: float, now: float, limit: int) -> int:
        """Delete at most `limit` logins, and agents that report them, of before a time; return their number.

        A login that lies more than an hour ahead of now, as after a clock that was wrong, is deleted, too: it would
        never expire, and no login of the same user would replace it.
        """
        orders = {"logins": before, "impossible_logins": now + HOUR, "reporters": before}
        return sum(self._statements.execute(f"protection.prune_{rows}", (time, limit)) for rows, time in orders.items())


def _login_row(login: HostLogin) -> tuple[object, ...]:
    return login.agent_number, *login.subject, login.user, login.guessed, login.at


def _lift_row(lift: Lift) -> tuple[object, ...]:
    return *lift.subject, lift.at, lift.kind, lift.author
