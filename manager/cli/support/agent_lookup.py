"""Which agent a person means: by its id, or by its hostname where only one agent has it."""

from typing import TYPE_CHECKING

from manager.cli.support.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record


def agent_id(client: "ManagerClient", machine_id: str) -> str:
    """Return the id that a person means, or the id of the agent with this hostname; of a removed one only the id.

    Raises:
        CommandFailed: no agent has this hostname, or more than one.
    """
    from schemas.identifiers import is_identifier  # noqa: PLC0415 -- pydantic takes a while to load

    return machine_id if is_identifier("agentId", machine_id) else str(find_machine(client, machine_id)["agentId"])


def find_machine(client: "ManagerClient", machine_id: str) -> "Record":
    """Return the record of the agent that has this id, or else this hostname.

    Raises:
        CommandFailed: there is none, or more than one; then the sentence names the candidates.
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
        raise CommandFailed(ExitCode.CONFLICT, f"{len(found)} agents are called {machine_id}; name one: {candidates}")
    return found[0]
