"""Command executor: the table of commands, each executed in the batch's transaction and audited."""

from collections.abc import Callable
from typing import Any

from manager.engine import notifications as notification_requests
from manager.engine.commands import (
    access,
    access_requests,
    agent_changes,
    allowlist,
    block_requests,
    blocks,
    console_sessions,
    enrollment_tokens,
    fleet,
    http_agent_requests,
    http_agents,
    incidents,
    key_requests,
    notifications,
    operators,
    policies,
    policy_explanation,
    requests,
    signing_keys,
    threats,
)
from manager.engine.commands.audit_rules import audited
from manager.engine.context import Context

_COMMANDS: dict[type, Callable[[Context, Any], Any]] = {
    requests.SetPolicy: policies.set_policy,
    requests.ReadPolicy: policies.read_policy,
    requests.RollBack: policies.roll_back,
    requests.PreviewRollback: policies.preview_rollback,
    requests.Broadcast: policies.broadcast,
    requests.Preview: policies.preview,
    requests.ExplainPolicy: policy_explanation.explain_policy,
    requests.CountGroups: policies.count_groups,
    requests.ReadDrift: policies.read_drift,
    requests.ChangeAllowlist: allowlist.change_allowlist,
    requests.ChangeAgent: agent_changes.change_agent,
    requests.ChangeAgents: agent_changes.change_agents,
    requests.ReadOrganizations: fleet.read_organizations,
    requests.PruneAgents: agent_changes.prune_agents,
    requests.RemoveAgent: fleet.remove_agent,
    requests.DeregisterAgent: fleet.deregister_agent,
    requests.CreateToken: enrollment_tokens.create_token,
    requests.RotateToken: enrollment_tokens.rotate_token,
    requests.RevokeToken: enrollment_tokens.revoke_token,
    key_requests.ReadKeys: signing_keys.read_keys,
    key_requests.RotateKeys: signing_keys.rotate_keys,
    key_requests.RollBackKeys: signing_keys.roll_back_keys,
    access_requests.CreateAccess: access.create_access,
    access_requests.RotateAccess: access.rotate_access,
    access_requests.RevokeAccess: access.revoke_access,
    access_requests.OpenSession: console_sessions.open_session,
    access_requests.CloseSession: console_sessions.close_session,
    access_requests.RecordRefusedSignIns: console_sessions.record_refused_sign_ins,
    requests.AcceptClock: fleet.accept_clock,
    requests.UndoIncident: incidents.undo_incident,
    requests.ApproveIncident: incidents.approve_incident,
    requests.WorkOnIncident: incidents.work_on_incident,
    requests.RecognizeThreat: threats.recognize_threat,
    requests.RemoveBlock: blocks.remove_block,
    block_requests.AddBlocks: blocks.add_blocks,
    block_requests.LiftAddress: blocks.lift_address,
    block_requests.ReadFeed: blocks.read_feed,
    requests.FreezeResponses: incidents.freeze_responses,
    requests.SetOrganizationResponse: incidents.set_organization_response,
    requests.ReadResponseStatus: incidents.read_response_status,
    access_requests.RecordOperatorAddress: operators.record_operator_address,
    notification_requests.RecordNotifications: notifications.record_notifications,
    notification_requests.PauseNotifications: notifications.pause_notifications,
    notification_requests.SendTest: notifications.tell_test,
    notification_requests.TellChannelState: notifications.tell_channel_state,
    notification_requests.AcknowledgeNotifications: notifications.acknowledge_notifications,
    notification_requests.MuteNotifications: notifications.mute_notifications,
    http_agent_requests.RegisterAgent: http_agents.register_agent,
    http_agent_requests.RecordRefusedRegistration: http_agents.record_refused_registration,
    http_agent_requests.RecordHeartbeat: http_agents.record_heartbeat,
    http_agent_requests.StoreReports: http_agents.store_reports,
    http_agent_requests.PollPolicy: http_agents.poll_policy,
    http_agent_requests.CreatePolicy: policies.create_policy,
}
"""The handler of each kind of request."""


def execute(context: Context, request: Any) -> Any:
    """Execute a command and return its answer.

    Raises:
        ManagerError: the command cannot be carried out; nothing was changed.
    """
    return audited(context, request, _COMMANDS[type(request)])
