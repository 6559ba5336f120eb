"""`panguard manager policies explain`: the scope of each value of an agent's effective policy."""

from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.completion import agents as complete_agents
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.policy_output import shown_value

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record


@with_manager_client
def explain_policy(
    client: "ManagerClient",
    machine_id: Annotated[str, typer.Argument(help="an agent's id or hostname", autocompletion=complete_agents)],
    *,
    defaults: Annotated[bool, typer.Option(help="also the values that no document sets")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show where each value of an agent's effective policy comes from."""
    from manager.cli.support.printing import print_json, print_lines, print_table  # noqa: PLC0415 -- rich takes a while to load

    agent = find_agent(client, machine_id)
    found = client.get(f"/api/policies/agent/{agent['agentId']}/explain")
    if output is Output.JSON:
        print_json(found)
        return
    rows = [_row(each) for each in found["values"] if defaults or each["scope"] != "default"]
    groups = ", ".join(found["groups"]) or "none"
    print_lines(f"{found['hostname']}: organization {found['organizationId']}, groups {groups}")
    if rows:
        print_table(("value", "is", "from", "also set by"), rows, whole=1)
    else:
        print_lines("no document sets anything: every value is a default (--defaults shows them)")


def _row(value: "Record") -> tuple[object, ...]:
    own = _scope(value)
    others = [_scope(each) for each in value["setBy"] if _scope(each) != own and each["scope"] != "default"]
    return value["path"], shown_value(value["value"]), own, others or None


def _scope(source: "Record") -> str:
    return source["scope"] if source["target"] is None else f"{source['scope']} {source['target']}"
