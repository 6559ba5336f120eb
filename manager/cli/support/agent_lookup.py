"""Agent lookup by id, or by hostname where it is unambiguous."""

from typing import TYPE_CHECKING

from manager.cli.support.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record


def find_agent_id(client: "ManagerClient", machine_id: str) -> str:
    """Return an agent id unchanged (the agent may be removed), or the id of the agent with this hostname.

    Raises:
        CommandFailed: no agent has this hostname, or more than one has it.
    """
    from schemas.identifiers import is_identifier  # noqa: PLC0415 -- pydantic takes a while to load

    return machine_id if is_identifier("agentId", machine_id) else str(find_agent(client, machine_id)["agentId"])


def find_agent(client: "ManagerClient", machine_id: str) -> "Record":
    """Return the record of the agent with this id, or else with this hostname.

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
    if not found:
        raise CommandFailed(ExitCode.NOT_FOUND, f"no agent has the id or hostname {machine_id}")
    if len(found) > 1:
        candidates = ", ".join(f"{agent['agentId']} (organization {agent['organizationId']})" for agent in found)
        raise CommandFailed(
            ExitCode.CONFLICT, f"{len(found)} agents have this hostname; name one by its id: {candidates}"
        )
    return found[0]
