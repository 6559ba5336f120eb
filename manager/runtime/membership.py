"""The place of a leading manager among the managers of its database: lease, fence, role, hand-over."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from manager.api.forwarding import ForwardingCodes
from manager.api.ports import Record
from manager.domain.rolling_upgrade import AMONG_MANAGERS
from manager.errors import StoreUnavailable
from manager.runtime.lease_keeper import INGEST, LEADER, STANDBY, LeaseKeeper
from manager.runtime.lease_metrics import LeaseCollector
from manager.runtime.transport_security import EMBEDDED
from manager.storage.postgresql.lease import Fence
from manager.storage.postgresql.shared_texts import SharedTexts
from manager.storage.postgresql.warm_agents import WarmAgents
from schemas.model import iso

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Membership:
    """The place of a leading manager among the managers of its database.

    Attributes:
        keeper: Keeps the lease.
        codes: Verifies the addresses of requests that others have passed on.
        listener: The listening socket of the HTTP door.
        shared: The texts of files that all managers have.
        warm: The agents that were read while this manager stood by.
    """

    keeper: LeaseKeeper
    codes: ForwardingCodes
    listener: socket.socket
    shared: SharedTexts
    warm: WarmAgents

    @property
    def epoch(self) -> int:
        """The number of this leadership."""
        tenure = self.keeper.tenure
        return 0 if tenure is None else tenure.epoch

    @property
    def is_lost(self) -> bool:
        """Whether the leadership has ended for good."""
        tenure = self.keeper.tenure
        return tenure is None or tenure.ended is not None

    def fence(self, database: Any) -> Callable[[], None]:
        """Fence the transactions of the writer's database from now on; return the fence."""
        fence: Callable[[], None] = lease_fence(self.keeper, database.connection)
        database.fence = fence
        return fence

    def collector(self) -> LeaseCollector:
        """Return the metrics of the lease."""
        return LeaseCollector(self.keeper)

    def group(self) -> Record:
        """Return role and managers, as `/health` shows them."""
        return group_record(self.keeper)

    def sharers(self) -> int:
        """Return the number of processes among which the broker splits the agents' messages."""
        return sharers(self.keeper)

    def http_doors(self) -> int:
        """Return the number of processes that serve HTTP agents."""
        return http_doors(self.keeper)

    def features(self) -> tuple[str, ...]:
        """Return the features for guards that all managers of the database have, which this one announces."""
        return tuple(each for each in self.keeper.features() if each not in AMONG_MANAGERS)

    def refusal_to_step_down(self) -> str | None:
        """Return why the lease is not handed over; None if another manager stands by for it."""
        group = self.keeper.group
        others = () if group is None else group.others(self.keeper.own_id)
        if any(member.role == STANDBY for member in others):
            return None
        return "no manager stands by for this one, which therefore stays; --force has it step down all the same"


def lease_fence(keeper: LeaseKeeper, connection: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that raises StoreUnavailable in a transaction of a manager that does not hold the lease.

    Args:
        keeper: keeps the lease, which it has.
        connection: returns the driver's connection on which the transaction has begun.
    """
    tenure = keeper.tenure
    if tenure is None:
        raise ValueError("there is no lease to fence by")
    fence = Fence(tenure.row)

    def check() -> None:
        if not keeper.leads():
            raise StoreUnavailable("this manager does not hold the lease just now; nothing was written")
        fence.check(connection())

    return check


def sharers(keeper: LeaseKeeper) -> int:
    """Return the number of processes among which the broker splits messages: the leader and the ingest processes."""
    group = keeper.group
    roles = [] if group is None else [member.role for member in group.members]
    return max(1, roles.count(LEADER) + roles.count(INGEST))


def http_doors(keeper: LeaseKeeper) -> int:
    """Return the number of processes that serve HTTP agents: leader, ingest processes, and those that stand by.

    One that stands by with an embedded broker passes all requests on.
    """
    members = () if keeper.group is None else keeper.group.members
    return max(1, sum(member.role != STANDBY or member.broker != EMBEDDED for member in members))


def group_record(keeper: LeaseKeeper) -> Record:
    """Return a manager's role, the leader, and all managers of the database, with the ports of their doors alone."""
    group, leader = keeper.group, keeper.leader()
    return {
        "role": LEADER if keeper.leads() else INGEST if keeper.role == INGEST else STANDBY,
        "leader": None
        if leader is None or group is None
        else {
            "hostname": leader.hostname,
            "port": _port(leader.address),
            "version": leader.version,
            "since": iso(group.since),
            "epoch": group.row.epoch,
        },
        "managers": [
            {
                "hostname": member.hostname,
                "port": _port(member.address),
                "role": member.role,
                "version": member.version,
                "behindSeconds": round(max(0.0, member.age), 1),
            }
            for member in (() if group is None else group.members)
        ],
    }


def _port(address: str) -> int | None:
    """Return the port of a manager's door, by which two on one host differ."""
    scheme, _, place = address.partition("://")
    _, colon, port = place.rstrip("/").rpartition(":")
    return int(port) if colon and port.isdecimal() else _DEFAULT_PORTS.get(scheme)
