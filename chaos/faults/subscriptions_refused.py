"""Mosquitto is killed and restarted with access rules that refuse a subscription of the manager or of all agents.

Must hold: the manager, refused, is not ready and names the topic; agents, refused, keep their reports; with the right
rules back all goes on by itself, and every report is stored once.
"""

import json
from pathlib import Path

from chaos.fault import Fault
from chaos.site import Site, SiteError
from manager.provisioning.mosquitto_files import STATE
from manager.provisioning.roles import MANAGER, is_of_agents
from schemas import topics


def strike(site: Site) -> None:
    """Kill Mosquitto, start it with a denying rule, wait until the rule takes effect, and restore the rules."""
    if site.mosquitto is None:
        raise SiteError("this door has no Mosquitto")
    site.wait(0.2, 1.0)
    state = site.mosquitto.directory / STATE
    site.kill(site.mosquitto)
    right = state.read_text()
    if site.dice.random() < 0.5:  # noqa: PLR2004 -- half of the time
        _deny(state, [MANAGER], topics.THREATS.filter)
        site.mosquitto.start()
        site.until(lambda: topics.THREATS.filter in str(site.manager.not_ready()), "the manager names the topic")
    else:
        agents = [role["rolename"] for role in json.loads(right)["roles"] if is_of_agents(role["rolename"])]
        _deny(state, agents, topics.RECEIPTS.filter)
        site.mosquitto.start()
        site.until(lambda: site.connected() == 0, "no agent is let in")
    site.wait(1.0, 4.0)
    site.kill(site.mosquitto)
    state.write_text(right)
    site.mosquitto.start()
    site.wait_ready()


def _deny(state: Path, roles: list[str], topic: str) -> None:
    """Deny the access of these roles to a topic."""
    rules = json.loads(state.read_text())
    for role in rules["roles"]:
        for entry in role["acls"]:
            if role["rolename"] in roles and entry["topic"] == topic:
                entry["allow"] = False
    state.write_text(json.dumps(rules))


FAULT = Fault("subscriptions refused", "broker", strike, doors=("mosquitto",))
