"""Manual blocks in an engine: adds them, and reads what organizations' blocklists have."""

import json
from typing import Any

from manager.domain.policies.fleet_policies import Scope
from manager.domain.response.manual_blocks import FLEET, ManualHolder
from manager.engine.commands.block_requests import AddBlocks, BlocksAdded, NewBlock
from manager.engine.commands.requests import SetPolicy
from manager.engine.inbox import Command
from manager.engine.origin import Origin
from schemas import topics
from tests.support.engine import Bench


def add(
    bench: Bench,
    *values: str,
    holder: ManualHolder = FLEET,
    seconds: float = 3600.0,
    address: str | None = None,
    **options: Any,
) -> BlocksAdded:
    """Add blocks as somebody at an address does."""
    request = AddBlocks(holder, tuple(NewBlock(value, seconds, "seen") for value in values), "alice", **options)
    answers: list[Any] = []
    command = Command(request, lambda value, error: answers.append((value, error)), Origin("alice", address, "r-1"))
    bench.engine.inbox.submit(command)
    bench.engine.step(bench.now)
    ((value, error),) = answers
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def blocked(bench: Bench, organization_id: str = "default") -> list[str]:
    """Return what an organization's blocklist has."""
    return [entry.value for entry in bench.fleet.blocklists.snapshot(organization_id).entries]


def changes(bench: Bench, organization_id: str = "default") -> list[dict[str, Any]]:
    """Return the changes that were published for an organization."""
    topic = topics.BLOCKLIST_CHANGES.address(organization_id)
    return [json.loads(payload) for payload in bench.publisher.take(topic)]


def group(bench: Bench, name: str, tag: str, **members: Any) -> None:
    """Set a policy group that selects by a tag and changes nothing else."""
    document = {"selector": {"tagsAll": [tag]}, "priority": len(name), "policy": {}, **members}
    bench.ask(SetPolicy(Scope("group", name), document, "alice"))
