"""Size limits, in bytes of payload unless stated otherwise."""

KIB = 1024
MIB = 1024 * KIB

MESSAGE_LIMIT = 16 * KIB
"""The size limit of a message without a more specific limit."""

THREAT_LIMIT = 256 * KIB
"""The size limit of one threat report, and of several in one message."""

REPORTS_IN_BATCH = 1000
"""The maximum number of threat reports in one message."""

POLICY_LIMIT = 256 * KIB
"""The size limit of an agent's effective policy, and of one change of an organization's blocklist."""

BLOCKLIST_LIMIT = 2 * MIB
"""The size limit of the retained snapshot of an organization's blocklist."""

BODY_LIMIT = 1 * MIB
"""The size limit of the body of an HTTP request."""

LOGINS_IN_HEARTBEAT = 16
"""The maximum number of logins that one heartbeat reports."""

AGENT_EMERGENCY_ENTRIES = 200
"""The maximum number of live emergency entries in one agent's policy; the first to expire is evicted."""

ORGANIZATION_EMERGENCY_ENTRIES = 10_000
"""The maximum number of live entries in one organization's blocklist; the first to expire is evicted."""
