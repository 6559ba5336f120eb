"""The steps of the demo; a step ends when the manager's API confirms it."""

import time
from collections.abc import Callable
from typing import Any

from demo.fleet import DemoError, Fleet, Guard, Report
from demo.hosts import ATTACKER, VISITOR

_STEP_WITHIN = 12.0
_LOOK_AGAIN = 0.1
_BLOCKED_WITHIN = 3.0


class Story:
    """Runs the demo's steps in order.

    Args:
        fleet: the running manager and its guards, not started yet.
        report: called with one line about each observation.
        show: is called again and again with agents and threats while the story waits.
    """

    def __init__(
        self, fleet: Fleet, report: Report, show: Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]
    ) -> None:
        self._fleet = fleet
        self._report = report
        self._show = show
        self.facts: dict[str, Any] = {}

    def tell(self) -> None:
        """Run all steps.

        Raises:
            DemoError: a step was not observed in time.
        """
        self._registration()
        self._incident()
        self._crash()
        self._policy()

    def farewell(self) -> None:
        """Stop all processes cleanly, and check that the manager shows the guards as offline.

        Raises:
            DemoError: a guard or the manager did not stop cleanly.
        """
        guards = list(self._fleet.guards)
        for guard in guards:
            guard.stop()
        self._until("all guards signed off", lambda agents, _: _all(agents, len(guards), status="offline"))
        codes = self._fleet.stop()
        self.facts["cleanStop"] = not any(codes.values())
        if any(codes.values()):
            raise DemoError(f"exit codes {codes}; all should be 0")
        self._report("all guards signed off, the manager stopped")

    def _registration(self) -> None:
        for guard in self._fleet.guards:
            guard.start()
        count = len(self._fleet.guards)
        agents, _ = self._until("guards online", lambda agents, _: _all(agents, count, status="online"))
        self._ids = {agent["hostname"]: agent["agentId"] for agent in agents}
        self.facts["registered"] = len(self._ids)
        self._report(f"{count} guards registered and online: {', '.join(sorted(self._ids))}")

    def _incident(self) -> None:
        """Attack two guards from one address, which both block; then the third, so that the whole fleet blocks it."""
        first, second, third = self._fleet.guards
        self.facts["enforcement"] = "simulated" if self._fleet.hosts is None else "nftables"
        self._connects("before the attack", {ATTACKER: self._fleet.guards, VISITOR: self._fleet.guards})
        for guard in (first, second):
            guard.log.failed_logins(ATTACKER, 6)
        _, threats = self._until("threats reported", lambda _, threats: len({t["agentId"] for t in threats}) > 1)
        for threat in reversed(threats):
            source = threat["threat"]["evidence"].get("sourceIp")
            self._report(f"threat on {threat['hostname']}: {threat['threat']['type']} from {source}")
        incident = self._accepted(organization_wide=False)
        self.facts["timeToAcceptanceSeconds"] = _acceptance(incident)["100"]
        enforced = "simulated" if self._fleet.hosts is None else "in the kernel"
        self._report(
            f"incident {incident['id']}: {incident['value']} on {len(incident['agentIds'])} guards; the block was "
            f"accepted by both after {self.facts['timeToAcceptanceSeconds']:.2f} s ({enforced})"
        )
        self._connects("after the block on two guards", {ATTACKER: [third], VISITOR: self._fleet.guards})
        third.log.failed_logins(ATTACKER, 6)
        incident = self._accepted(organization_wide=True)
        is_measured = self._fleet.hosts is not None and "timeToAcceptance" in incident
        self.facts["timeToImmunitySeconds"] = (incident["timeToImmunity"] or {}).get("100") if is_measured else None
        self.facts["fleetWideBlock"] = True
        self._report(f"{ATTACKER} attacked a third guard: the block was accepted by the whole fleet, by one publish")
        self._connects("after the fleet-wide block", {ATTACKER: [], VISITOR: self._fleet.guards})
        self.facts["threats"] = len(self._fleet.threats())

    def _connects(self, when: str, expected: dict[str, list[Guard]]) -> None:
        """Check over real TCP which hosts each address reaches; nothing to check where blocks are simulated."""
        hosts = self._fleet.hosts
        if hosts is None:
            return
        for address, guards in expected.items():
            for guard in self._fleet.guards:
                deadline = time.monotonic() + _BLOCKED_WITHIN
                while guard.protected and hosts.reaches(guard.protected, address) is not (guard in guards):
                    if time.monotonic() > deadline:
                        raise DemoError(
                            f"{when} {address} should {'' if guard in guards else 'not '}reach {guard.hostname}"
                        )
        reached = ", ".join(guard.hostname for guard in expected[ATTACKER]) or "no host"
        self._report(f"{when}: {ATTACKER} connects to {reached}, {VISITOR} to all")

    def _accepted(self, *, organization_wide: bool) -> dict[str, Any]:
        """Wait until every target reports that it has accepted the block; return the attacker's incident."""
        found: list[dict[str, Any]] = []

        def seen(agents: list[dict[str, Any]], _threats: list[dict[str, Any]]) -> bool:
            found[:] = [
                incident
                for incident in self._fleet.incidents()
                if incident["value"] == ATTACKER
                and incident["response"] == "applied"
                and incident["organizationWide"] is organization_wide
                and _acceptance(incident).get("100") is not None
            ]
            on_all = not organization_wide or all(agent["blocklistSequence"] > 0 for agent in agents)
            return bool(found) and on_all

        self._until(f"the block accepted{' everywhere' if organization_wide else ' by both guards'}", seen)
        return found[0]

    def _crash(self) -> None:
        victim = self._fleet.guards[-1]
        began = time.monotonic()
        victim.kill()
        self._report(f"{victim.hostname} killed with SIGKILL")
        self._until(
            "the killed guard flagged",
            lambda agents, _: _one(agents, victim.hostname, status="stale", reason="connection_lost"),
        )
        self.facts["flaggedAfterSeconds"] = round(time.monotonic() - began, 1)
        self._report(f"{victim.hostname} flagged through its last will after {self.facts['flaggedAfterSeconds']} s")
        victim.start()
        agents, _ = self._until("the guard back", lambda agents, _: _one(agents, victim.hostname, status="online"))
        same = next(agent["agentId"] for agent in agents if agent["hostname"] == victim.hostname)
        if same != self._ids[victim.hostname]:
            raise DemoError(f"{victim.hostname} came back as {same}, it was {self._ids[victim.hostname]}")
        self.facts["resumedIdentity"] = True
        self._report(f"{victim.hostname} is back as {same}, the same agent")

    def _policy(self) -> None:
        began = time.monotonic()
        revision = self._fleet.set_global_policy({"thresholds": {"autoRespond": 75}})
        count = len(self._fleet.guards)
        self._until(
            "the policy in force on all guards",
            lambda agents, _: _all(agents, count, policyVersion=revision, policyState="applied"),
        )
        self.facts["policyVersion"] = revision
        self.facts["policyAppliedAfterSeconds"] = round(time.monotonic() - began, 2)
        self._report(f"policy version {revision} in force on all {count} guards, acknowledged by each")

    def _until(
        self, what: str, seen: Callable[[list[dict[str, Any]], list[dict[str, Any]]], bool]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        deadline = time.monotonic() + _STEP_WITHIN
        while True:
            agents, threats = self._fleet.agents(), self._fleet.threats()
            self._show(agents, threats)
            if seen(agents, threats):
                return agents, threats
            if time.monotonic() > deadline:
                raise DemoError(f"not seen within {_STEP_WITHIN:g} s: {what}; the logs are in {self._fleet.home}")
            time.sleep(_LOOK_AGAIN)


def _acceptance(incident: dict[str, Any]) -> dict[str, Any]:
    """Return the percentiles of the time to acceptance; managers before it had a name give them as immunity."""
    return incident.get("timeToAcceptance") or incident["timeToImmunity"] or {}


def _all(agents: list[dict[str, Any]], count: int, **members: Any) -> bool:
    return len(agents) == count and all(agent[key] == value for agent in agents for key, value in members.items())


def _one(agents: list[dict[str, Any]], hostname: str, **members: Any) -> bool:
    found = [agent for agent in agents if agent["hostname"] == hostname]
    return len(found) == 1 and all(found[0][key] == value for key, value in members.items())
