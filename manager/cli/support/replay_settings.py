"""Settings file of a replay: thresholds and allowlists to try in place of those in force.

All members are optional: the defaults are those of the rules, and for allowlists those of the policies. An allowlist in
the file replaces that of the policy, so that the removal of an entry can be tried as well.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from manager.cli.support.failures import CommandFailed, ExitCode
from manager.domain.correlation import Allowlist, CorrelatorSettings
from manager.domain.policies.fleet_policies import GLOBAL, Scope, Sections
from manager.domain.replay.replay import Candidate
from manager.domain.response import OrganizationResponse, ResponderSettings
from schemas.decoding import DecodeError, decode
from schemas.identifiers import OrganizationId
from schemas.limits import BODY_LIMIT
from schemas.policy import Address, FileHash

Agents = Annotated[int, Field(ge=2, le=1_000_000, description="distinct agents that open an incident")]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400.0)]
Share = Annotated[float, Field(gt=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class _Part(BaseModel):
    """Section of the file; unknown members are refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """Return the given members with the names of the rules' settings."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class CorrelatorPart(_Part):
    """Number of distinct agents that open an incident, by kind."""

    source_ip_agents: Agents = 2
    file_hash_agents: Agents = 2
    technique_agents: Agents = 2


class ResponderPart(_Part):
    """Limits of automatic response; `manager.domain.response.settings` documents each member."""

    duration: Seconds = 14_400.0
    longest: Seconds = 86_400.0
    organization_agents: Annotated[int, Field(ge=2)] = 3
    organization_age: Annotated[float, Field(ge=0)] = 0.0
    organization_networks: Annotated[int, Field(ge=0)] = 0
    blocks: Count = 100
    window: Seconds = 300.0
    agent_share: Share = 0.1
    token_share: Share = 0.5
    approval_time: Seconds = 86_400.0
    max_pending: Count = 10_000
    auto_respond_step: Percent = 10.0
    auto_respond_floor: Percent = 50.0
    agent_entries: Count = 200
    organization_entries: Count = 10_000


class AllowlistPart(_Part):
    """Indicators that open no incident and are never blocked."""

    ips: list[Address] = Field(default_factory=list)
    file_hashes: list[FileHash] = Field(default_factory=list)

    @property
    def entries(self) -> list[str]:
        """All entries."""
        return [*self.ips, *self.file_hashes]


class OrganizationPart(_Part):
    """Settings of one organization."""

    allowlist: AllowlistPart


class ReplaySettings(_Part):
    """Root of the file."""

    correlator: CorrelatorPart = CorrelatorPart()
    responder: ResponderPart = ResponderPart()
    allowlist: AllowlistPart | None = None
    organization_response: Annotated[OrganizationResponse, Field(strict=False)] | None = None
    organizations: dict[OrganizationId, OrganizationPart] = Field(default_factory=dict)
    own_addresses: list[Address] = Field(default_factory=list)
    admin_networks: list[Address] = Field(default_factory=list)

    def candidate(
        self,
        documents: Mapping[Scope, Sections],
        organization_ids: Iterable[str],
        chosen: OrganizationResponse = OrganizationResponse.VOUCHED,
    ) -> Candidate:
        """Return the replay candidate for a fleet with these policies and organizations, and this stored choice."""
        everywhere = self._allowed(GLOBAL, self.allowlist, documents)
        allowed = {}
        for organization_id in organization_ids:
            own = self.organizations.get(organization_id)
            scope = Scope("organization", organization_id)
            allowed[organization_id] = [
                *everywhere,
                *self._allowed(scope, own.allowlist if own is not None else None, documents),
            ]
        return Candidate(
            correlator=CorrelatorSettings(**self.correlator.given()),
            responder=ResponderSettings(**self.responder.given()),
            allowed=Allowlist(allowed),
            own_addresses=tuple(self.own_addresses),
            admin_networks=tuple(self.admin_networks),
            organization_response=self.organization_response or chosen,
        )

    @staticmethod
    def _allowed(scope: Scope, tried: AllowlistPart | None, documents: Mapping[Scope, Sections]) -> list[str]:
        if tried is not None:
            return tried.entries
        section = documents.get(scope, {}).get("allowlist") or {}
        return [*section.get("ips", ()), *section.get("fileHashes", ())]


def read_replay_settings(file: Path) -> ReplaySettings:
    """Read a settings file.

    Raises:
        CommandFailed: the file cannot be read, is not JSON, or has an invalid member, which the error names.
    """
    try:
        return decode(ReplaySettings, file.read_bytes(), BODY_LIMIT)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file}: {error}") from error
