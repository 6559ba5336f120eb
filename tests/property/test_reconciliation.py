"""The broker agrees with the fleet after its differences were carried out, whatever it had before."""

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.provisioning import plugin_commands as commands
from manager.provisioning.logins import FleetLogins, manager_login, observer_login
from manager.provisioning.plugin_commands import Command
from manager.provisioning.reconciliation import PluginState, reconcile
from manager.provisioning.roles import is_ours, organization_role, shared_roles

HOST = Host.of("srv", "Linux", "x64", "1")
NUMBERS = st.integers(0, 5)


class Plugin:
    """A model of the dynamic-security plugin; it refuses commands in a wrong order."""

    def __init__(self) -> None:
        self.clients: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, dict[str, Any]] = {}

    def obey(self, steps: Iterable[list[Command]]) -> int:
        count = 0
        for command in [json.loads(json.dumps(command)) for step in steps for command in step]:
            getattr(self, "_" + command.pop("command"))(**command)
            count += 1
        return count

    def _createRole(self, rolename: str, acls: list[Any]) -> None:  # noqa: N802 -- the plugin's own word
        assert rolename not in self.roles
        self.roles[rolename] = {"rolename": rolename, "acls": acls}

    def _modifyRole(self, rolename: str, acls: list[Any]) -> None:  # noqa: N802 -- the plugin's own word
        assert rolename in self.roles
        self.roles[rolename]["acls"] = acls

    def _deleteRole(self, rolename: str) -> None:  # noqa: N802 -- the plugin's own word
        del self.roles[rolename]

    def _createClient(self, username: str, roles: list[Any], **members: Any) -> None:  # noqa: N802 -- the same
        assert username not in self.clients
        assert all(role["rolename"] in self.roles for role in roles)
        self.clients[username] = {"username": username, "roles": roles, **members}

    def _deleteClient(self, username: str) -> None:  # noqa: N802 -- the plugin's own word
        del self.clients[username]

    def found(self) -> PluginState:
        found = PluginState()
        found.add_clients(list(self.clients.values()))
        found.add_roles(list(self.roles.values()))
        return found


def _agent(number: int, organization: int, secret: int, door: Door) -> Agent:
    credential = credential_of(bytes([secret]) * 32)
    return Agent(number, f"ag-{number:016x}", f"org-{organization}", HOST, credential, None, door, 0.0)


AGENTS = st.lists(
    st.builds(_agent, NUMBERS, st.integers(0, 1), st.integers(0, 1), st.sampled_from(Door)),
    unique_by=lambda agent: agent.agent_id,
)


def _fleet(agents: list[Agent]) -> FleetLogins:
    return FleetLogins({agent.agent_id: agent for agent in agents}, {"observer": observer_login("observer", "o")})


def _prepared() -> Plugin:
    plugin = Plugin()
    plugin.obey([[commands.create_role(role) for role in shared_roles()]])
    plugin.obey([[commands.create_client(manager_login("m"))]])
    return plugin


@given(
    before=AGENTS,
    after=AGENTS,
    lost=st.sets(st.integers(0, 1)),
    widened=st.sets(st.integers(0, 1)),
    disabled=st.sets(NUMBERS),
)
def test_the_broker_agrees(
    before: list[Agent], after: list[Agent], lost: set[int], widened: set[int], disabled: set[int]
) -> None:
    """From any earlier fleet, with roles lost or widened and clients disabled, to exactly the fleet as it is."""
    plugin = _prepared()
    plugin.obey(reconcile(plugin.found(), _fleet(before)))
    plugin.clients["dashboard"] = {"username": "dashboard", "roles": [], "textdescription": "an operator's own"}
    plugin.roles["readers"] = {"rolename": "readers", "acls": []}
    plugin.roles["panguard-agent-ag-0"] = {"rolename": "panguard-agent-ag-0", "acls": []}
    for number in widened:
        role = plugin.roles.get(f"panguard-organization-org-{number}", {"acls": []})
        role["acls"].append({"acltype": "publishClientSend", "topic": "#", "priority": 0, "allow": True})
    for number in lost:
        plugin.roles.pop(f"panguard-organization-org-{number}", None)
    for agent in before:
        if agent.agent_id in plugin.clients and agent.number in disabled:
            plugin.clients[agent.agent_id]["disabled"] = True
    wanted = _fleet(after)
    plugin.obey(reconcile(plugin.found(), wanted))
    speakers = [agent for agent in after if agent.door is Door.MQTT]
    assert set(plugin.clients) == {"manager", "observer", "dashboard", *(agent.agent_id for agent in speakers)}
    for agent in speakers:
        client, login = plugin.clients[agent.agent_id], wanted.find(agent.agent_id)
        assert login is not None
        assert (client["password"], client.get("disabled")) == (login.password, None)
        assert [role["rolename"] for role in client["roles"]] == [f"panguard-organization-{agent.organization_id}"]
    roles = {role.name: role.acls for role in shared_roles()}
    roles |= {role.name: role.acls for role in map(organization_role, wanted.organizations())}
    ours = {name: commands.acls_of(role["acls"]) for name, role in plugin.roles.items() if is_ours(name)}
    assert (ours, "readers" in plugin.roles) == (roles, True)
    assert plugin.obey(reconcile(plugin.found(), wanted)) == 0
