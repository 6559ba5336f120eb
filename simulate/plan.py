"""The plan of a simulation: addresses, tokens, sizes, rates and the seed, validated at construction."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import SchemaError
from schemas.keys import EnrollmentToken
from simulate.address import Address
from simulate.errors import PlanError

MOST_AGENTS = 100_000
"""The maximum number of agents; a hostname has five digits for the agent's number."""

BURSTS = (1, 2, 4, 5, 8, 10, 20)
"""The numbers of reports that may be made at one moment."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulation. Counts and rates are totals over all agents, shares lie between 0 and 1, times are seconds.

    Attributes:
        manager: The agents' door: ``mqtt(s)://`` for a broker, ``http(s)://`` for the manager.
        admin: The manager's HTTP address, used to check the reports.
        enroll_token: The enrollment token.
        auth_token: The admin token.
        agents: The number of simulated agents.
        threats: The number of reports.
        rate: Reports per second.
        shared_attackers: The share of reports whose source address several agents report.
        unvouched: The share of reports that do not vouch for their source address.
        seed: The random seed of hostnames, attackers, severities, times and planted faults.
        heartbeats: Whether agents send heartbeats after the first one.
        connections: The number of HTTP connections that all agents share; None for one connection for each agent.
        cuts: The number of connections that are cut without a sign-off while reports are sent.
        repeats: The share of reports that are sent twice at once.
        burst: The number of reports that are made at one moment, those of attackers of one agent by one agent, as a
            guard does that reads several lines of its log at once. It sends them in one message, if the manager takes
            such.
        state: The directory that stores the agents' identities for the next run; None stores none.
        ca_file: The trusted certificates, PEM; None for the system's.
        insecure: Whether plain-text connections to other machines are allowed.
        heartbeat_interval: The time between two heartbeats of an agent.
        policy_poll_interval: The time between two polls of an agent over HTTP.
        receipt_timeout: The time after which a report without a receipt is sent again; doubled each time.
        reconnect_base: The maximum wait after a first failure to connect.
        reconnect_cap: The maximum wait after any failure to connect.
        patience: The time without any progress after which a phase is given up.
        late_after: The time between a report's detection and its receipt above which it counts as late.
    """

    manager: str
    admin: str
    enroll_token: str = field(repr=False)
    auth_token: str = field(repr=False)
    agents: int = 10
    threats: int = 100
    rate: float = 10.0
    shared_attackers: float = 0.2
    unvouched: float = 0.0
    seed: int = 1
    heartbeats: bool = False
    connections: int | None = None
    cuts: int = 0
    repeats: float = 0.0
    burst: int = 1
    state: Path | None = None
    ca_file: Path | None = None
    insecure: bool = False
    heartbeat_interval: float = 30.0
    policy_poll_interval: float = 300.0
    receipt_timeout: float = 30.0
    reconnect_base: float = 1.0
    reconnect_cap: float = 60.0
    patience: float = 120.0
    late_after: float = 60.0

    def __post_init__(self) -> None:
        """Validate the plan.

        Raises:
            PlanError: a value is out of its range, or an address or the enrollment token cannot be read.
        """
        if not 1 <= self.agents <= MOST_AGENTS:
            raise PlanError(f"--agents is {self.agents}: give 1 to {MOST_AGENTS:,}")
        if self.threats < 0 or self.cuts < 0:
            raise PlanError("--threats and --cuts are counts: give 0 or more")
        if self.burst not in BURSTS:
            raise PlanError(f"a burst has {', '.join(map(str, BURSTS))} reports, not {self.burst}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise PlanError(f"--rate is {self.rate:g}: give reports a second, above 0")
        for name in ("shared_attackers", "unvouched", "repeats"):
            if not 0 <= getattr(self, name) <= 1:
                raise PlanError(f"--{name.replace('_', '-')} is {getattr(self, name):g}: give a share from 0 to 1")
        self._check_addresses()
        try:
            EnrollmentToken.parse(self.enroll_token)
        except SchemaError as error:
            raise PlanError(str(error)) from error

    def _check_addresses(self) -> None:
        door, admin = Address.parse(self.manager), Address.parse(self.admin)
        if not admin.is_http:
            raise PlanError(f"{admin} is no HTTP address: the reports are checked at http://host:port, in MANAGER_URL")
        if self.connections is not None and not door.is_http:
            raise PlanError(
                "--connections is for HTTP: over MQTT each agent has a login and a last will of its own,"
                " so each needs its own connection"
            )
        if self.connections is not None and self.connections < 1:
            raise PlanError("--connections is a count of connections: give 1 or more")
        for address in (door, admin):
            address.check_plain_text(insecure=self.insecure)

    @property
    def door(self) -> Address:
        """The agents' door."""
        return Address.parse(self.manager)

    @property
    def admin_address(self) -> Address:
        """The manager's HTTP address."""
        return Address.parse(self.admin)

    @property
    def token(self) -> EnrollmentToken:
        """The enrollment token."""
        return EnrollmentToken.parse(self.enroll_token)

    @property
    def sockets(self) -> int:
        """The maximum number of open agent connections."""
        return self.agents if self.connections is None else min(self.connections, self.agents)
