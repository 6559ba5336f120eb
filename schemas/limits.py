"""Size limits, in bytes of payload unless stated otherwise."""

KIB = 1024
MIB = 1024 * KIB

MESSAGE_LIMIT = 16 * KIB
"""Any message without a more specific limit."""

THREAT_LIMIT = 256 * KIB
"""One threat report."""

POLICY_LIMIT = 256 * KIB
"""An agent's effective policy, or one change of an organization's blocklist."""

BLOCKLIST_LIMIT = 2 * MIB
"""The retained snapshot of an organization's blocklist."""

BODY_LIMIT = 1 * MIB
"""The body of an HTTP request."""

AGENT_EMERGENCY_ENTRIES = 200
"""The maximum number of live emergency entries in one agent's policy; the first to expire is evicted."""

ORGANIZATION_EMERGENCY_ENTRIES = 10_000
"""The maximum number of live entries in one organization's blocklist; the first to expire is evicted."""
