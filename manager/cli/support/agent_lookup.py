"""Agent lookup by id, or by hostname, in full or its first labels, where it is unambiguous."""

from typing import TYPE_CHECKING

from manager.cli.support.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

_NAMED = 20
"""The most candidates that an error names."""


def find_agent_id(client: "ManagerClient", machine_id: str) -> str:
    """Return an agent id unchanged (the agent may be removed), or the id of the agent with this hostname.

    Raises:
        CommandFailed: no agent has this hostname, or more than one has it.
    """
    from schemas.identifiers import is_identifier  # noqa: PLC0415 -- pydantic takes a while to load

    return machine_id if is_identifier("agentId", machine_id) else str(find_agent(client, machine_id)["agentId"])


def find_agent(client: "ManagerClient", machine_id: str) -> "Record":
    """Return the record of the agent with this id, else with this hostname, else with a hostname that begins so.

    Without an agent `web-1` the name `web-1` stands for `web-1.example.net`, the only one with this first label.

    Raises:
        CommandFailed: no agent matches, or several do; then the error names the candidates.
    """
    from schemas.identifiers import is_identifier  # noqa: PLC0415 -- pydantic takes a while to load

    if is_identifier("agentId", machine_id):
        try:
            return dict(client.get(f"/api/agents/{machine_id}"))
        except CommandFailed as failure:
            if failure.code is not ExitCode.NOT_FOUND:
                raise
    found = client.records("/api/agents", hostname=machine_id)
    if len(found) > 1:
        candidates = ", ".join(f"{agent['agentId']} (organization {agent['organizationId']})" for agent in found)
        raise CommandFailed(
            ExitCode.CONFLICT, f"{len(found)} agents have this hostname; name one by its id: {candidates}"
        )
    return found[0] if found else _find_by_first_labels(client, machine_id)


def _find_by_first_labels(client: "ManagerClient", labels: str) -> "Record":
    found = client.records("/api/agents", short_hostname=labels)
    if not found:
        raise CommandFailed(
            ExitCode.NOT_FOUND,
            f"no agent has the id or hostname {labels}: agents list shows those there are, and audit list --action"
            " agent.remove those that were removed",
        )
    if len(found) > 1:
        named = ", ".join(f"{agent['hostname']} ({agent['agentId']})" for agent in found[:_NAMED])
        more = f", and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        raise CommandFailed(
            ExitCode.CONFLICT, f"{len(found):,} hostnames begin with {labels}; name one in full: {named}{more}"
        )
    return found[0]
