"""The parts of a guard, as `agent.guard` runs them."""

from collections import Counter
from dataclasses import dataclass

from agent.connection.identity import IdentityFile
from agent.connection.presence_messages import PresenceMessages
from agent.manager_time import ManagerTime
from agent.pipeline import Pipeline
from agent.policy.blocklist import OrganizationBlocklist
from agent.policy.policy_store import PolicyStore
from agent.report.delivery import Delivery
from agent.report.kept_reports import KeptReports
from agent.report.login_reports import LoginReports
from agent.report.outbox import Outbox
from agent.report.resending import Resending
from agent.respond.enforcement import Enforcement


@dataclass(frozen=True, slots=True)
class GuardParts:
    """The guard's parts; built by `agent.runtime`, or by a test."""

    started: float
    identity: IdentityFile
    liveness: PresenceMessages
    outbox: Outbox
    logins: LoginReports
    delivery: Delivery
    kept: KeptReports
    resending: Resending
    pipeline: Pipeline
    policy: PolicyStore
    blocklist: OrganizationBlocklist
    enforcement: Enforcement
    manager_time: ManagerTime
    ignored: Counter[str]
