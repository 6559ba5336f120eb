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
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_indented  # noqa: PLC0415 -- the same

    agent = find_agent(client, machine_id)
    found = client.get(f"/api/policies/agent/{agent['agentId']}/explain")
    if output is Output.JSON:
        print_json(found)
        return
    rows = [_row(each) for each in found["values"] if defaults or each["scope"] != "default"]
    groups = ", ".join(found["groups"]) or "none"
    print_indented(f"{found['hostname']}: organization {found['organizationId']}, groups {groups}")
    for path, value, source, others in rows:
        also = f"; also set by {', '.join(others)}" if others else ""
        print_indented(f"{path}: {value}", rest=4)
        print_indented(f"  from {source}{also}")
    if not rows:
        print_indented("no document sets anything: every value is a default (--defaults shows them)")


def _row(value: "Record") -> tuple[str, object, str, list[str]]:
    own = _scope(value)
    others = [_scope(each) for each in value["setBy"] if _scope(each) != own and each["scope"] != "default"]
    return value["path"], shown_value(value["value"]), own, others


def _scope(source: "Record") -> str:
    return source["scope"] if source["target"] is None else f"{source['scope']} {source['target']}"
