"""Reports that the store lost: finds out by guards' receipt marks, and asks guards for them by a new generation."""

import structlog

from manager.domain.agents.agent import Agent
from manager.domain.instant import Instant
from manager.domain.store_history import HISTORY
from manager.engine.commands.audit import add_entry
from manager.engine.commands.signing_keys import keys_publication
from manager.engine.context import Context
from manager.engine.origin import MANAGER
from schemas.model import iso

log = structlog.get_logger(__name__)

WARNING = "lost_reports"
"""The name of the warning that the store lost reports."""


class StoreRun:
    """Stores the run of the manager on its store with the first batch.

    If the database failed over since the former run, guards are asked for the reports that it may have lost.
    """

    def __init__(self) -> None:
        self._is_due = True

    def tick(self, context: Context, _now: Instant) -> None:
        """Store the run with the first batch of a restored fleet."""
        history = context.fleet.store_history
        if self._is_due and history.runs:
            self._is_due = False
            context.batch.changes.meta[HISTORY] = history.dump()
            if context.fleet.lost_since is not None:
                ask(context, context.fleet.lost_since)


def compare(context: Context, agent: Agent, mark: str) -> None:
    """Compare the mark of an agent's latest receipt with the history of the store; ask guards if reports are lost."""
    history, now = context.fleet.store_history, context.batch.now.wall
    if mark.startswith(history.present):
        return
    try:
        since = history.loss_shown_by(mark, now)
    except ValueError:
        context.fleet.counters["claims_ignored"] += 1
        return
    if since is not None:
        ask(context, since, history.generation_of(mark), agent.agent_id)


def ask(context: Context, since: float, lost_generation: int = 0, agent_id: str | None = None) -> None:
    """Begin a generation, and publish it with the manager's keys.

    Args:
        context: The batch.
        since: Reports with a receipt since then are asked for, in seconds since 1970.
        lost_generation: A generation that the store has lost.
        agent_id: The agent whose mark showed the loss; None for a fail-over.
    """
    fleet, batch = context.fleet, context.batch
    history, former = fleet.store_history, fleet.store_history.generation.number
    history.ask(batch.now.wall, since, lost_generation)
    asked = history.generation
    batch.changes.meta[HISTORY] = history.dump()
    batch.publications.append(keys_publication(fleet, batch.now.wall))
    fleet.counters["generations_begun"] += 1
    resend_from = iso(since if asked.resend_from is None else asked.resend_from)
    log.error("store_lost_reports", generation=asked.number, resend_from=resend_from, agent_id=agent_id)
    after = {"generation": asked.number, "resendFrom": resend_from, "agentId": agent_id}
    add_entry(context, MANAGER, "store.lost_reports", "store", before={"generation": former}, after=after)
    fleet.warnings[WARNING] = (
        f"the store lost reports that guards have receipts for; guards of this release send those since {resend_from} "
        "again, over the next hour at most; what else was stored since then is missing"
    )
