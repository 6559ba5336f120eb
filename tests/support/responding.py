"""A correlator and a responder on a virtual clock, with the policies that follow from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from msgspec import structs

from manager.domain.correlation import (
    Allowed,
    Correlator,
    CorrelatorSettings,
    Incident,
    NoHistory,
    Report,
    vouched_bits,
)
from manager.domain.correlation.allowlist import allow_nothing, ignored_bits
from manager.domain.policies.fleet_policies import Policies
from manager.domain.policies.groups import Placement
from manager.domain.response import (
    Blocklists,
    EvidenceIndex,
    FleetAddresses,
    NeverBlock,
    RepeatOffenderRule,
    Responder,
    ResponderSettings,
    Response,
    ResponseChanges,
)

START = 1_800_000_000.0


@dataclass
class FleetFacts:
    """What the responder asks of the fleet; an agent that no token is given for came without one."""

    tokens: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    registered: dict[str, float] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    escalation: RepeatOffenderRule = field(default_factory=lambda: RepeatOffenderRule(3, 86_400.0))

    @property
    def several_tokens(self) -> bool:
        return len(set(self.tokens.values())) > 1

    def is_in(self, agent_id: str, _organization_id: str) -> bool:
        return agent_id not in self.gone

    def untimely_reports(self, _agent_ids: Iterable[str]) -> list[str]:
        return []

    def token_of(self, agent_id: str) -> str | None:
        return self.tokens.get(agent_id)

    def registered_at(self, agent_id: str) -> float | None:
        return None if agent_id in self.gone else self.registered.get(agent_id, 0.0)

    def network_of(self, agent_id: str) -> str | None:
        return self.networks.get(agent_id)

    def repeat(self, _organization_id: str) -> RepeatOffenderRule:
        return self.escalation


class Scene:
    """Reports go in; what is in force comes out. Everything that a store would keep is kept, for a restart."""

    def __init__(
        self,
        settings: ResponderSettings | None = None,
        *,
        allowed: Allowed = allow_nothing,
        own_addresses: Iterable[str] = (),
        admin_networks: Iterable[str] = (),
    ) -> None:
        self.now = START
        self.facts = FleetFacts()
        self.settings = settings or ResponderSettings()
        self.guarded = tuple(own_addresses), tuple(admin_networks)
        self._ids = count(1)
        self.correlator = Correlator(CorrelatorSettings(), lambda: f"inc-{next(self._ids)}", NoHistory())
        self.allowed = allowed
        self.responder = self._responder()
        self.policies = Policies()
        self.blocklists = Blocklists(self.responder.entries)
        self.incidents: dict[str, Incident] = {}
        self.responses: dict[str, Response] = {}
        self.pushes: dict[str, int] = {}
        self._reports = count(1)

    def _responder(self) -> Responder:
        own, admin = self.guarded
        never = NeverBlock(self.allowed, FleetAddresses(), EvidenceIndex(), own, admin)
        return Responder(self.settings, never, lambda: f"ent-{next(self._ids)}")

    def restart(self) -> None:
        """Build the responder again from what was kept."""
        before = self.responder
        entries = list(before.entries)
        self.responder = self._responder()
        self.responder.frozen, self.responder.organization_response = before.frozen, before.organization_response
        self.responder.load(entries, self.responses.values(), self.incidents.values(), self.facts, self.now)
        self.blocklists = Blocklists(self.responder.entries, self.blocklists.sequences)

    def report(
        self,
        agent_id: str,
        *,
        ip: str | None = None,
        file_hash: str | None = None,
        technique: str | None = None,
        site: str | None = None,
        organization_id: str = "acme",
        late: float = 0.0,
        clock_known: bool = True,
        vouched: bool = True,
        **evidence: object,
    ) -> ResponseChanges:
        """Take one report, and everything that follows from it."""
        self.policies.assign(agent_id, Placement(organization_id), self.now)
        said = {"sourceIp": ip, "fileHash": file_hash, **evidence}
        response_changes = self.responder.record_evidence(organization_id, site, agent_id, said, self.now)
        name = f"t-{next(self._reports)}"
        report = Report(
            agent_id, organization_id, site, name, self.now - late, self.now, ip, file_hash, technique, clock_known,
            vouched=vouched_bits(("sourceIp", "fileHash") if vouched else ()),
        )  # fmt: skip
        report = structs.replace(report, ignored=ignored_bits(report.indicators(), technique, self.allowed))
        for change in self.correlator.observe(report):
            self.incidents[change.incident.id] = change.incident
            response_changes.merge(self.responder.react(change, self.facts, self.now))
        return self.follow(response_changes)

    def attack(self, ip: str, agent_ids: Iterable[str]) -> ResponseChanges:
        """Let agents report one address, one after the other; return all that followed."""
        response_changes = ResponseChanges()
        for agent_id in agent_ids:
            response_changes.merge(self.report(agent_id, ip=ip))
        return response_changes

    def follow(self, response_changes: ResponseChanges) -> ResponseChanges:
        """Do what an engine does with response changes."""
        self.responses.update((response.incident_id, response) for response in response_changes.responses)
        entries = {agent_id: self.responder.entries.agent_layer(agent_id) for agent_id in response_changes.agent_ids}
        for policy in self.policies.set_emergency(entries, self.now):
            self.pushes[policy.agent_id] = self.pushes.get(policy.agent_id, 0) + 1
        return response_changes

    def pass_time(self, seconds: float) -> ResponseChanges:
        """Let time pass at once, and do what is due at its end."""
        self.now += seconds
        response_changes = ResponseChanges()
        for change in self.correlator.expire(self.now):
            response_changes.merge(self.responder.react(change, self.facts, self.now))
        response_changes.merge(self.responder.expire(self.now))
        return self.follow(response_changes)

    def incident(self, value: str) -> Incident:
        """Return the newest incident of an indicator."""
        return [incident for incident in self.incidents.values() if incident.value == value][-1]

    def response(self, value: str) -> Response:
        """Return the response to the newest incident of an indicator."""
        return self.responses[self.incident(value).id]

    def blocked_on(self, agent_id: str) -> list[str]:
        """Return what an agent blocks by its own policy."""
        blocklist = self.policies.effective[agent_id].resolved.sections["blocklist"]
        return [entry["value"] for name in ("ips", "fileHashes") for entry in blocklist[name]]

    def blocked_in(self, organization_id: str = "acme") -> list[str]:
        """Return what an organization blocks."""
        return [entry.value for entry in self.blocklists.snapshot(organization_id).entries]
