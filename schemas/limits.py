"""Size limits, in bytes of payload unless stated otherwise."""

KIB = 1024
MIB = 1024 * KIB

MESSAGE_LIMIT = 16 * KIB
"""Any message without a limit of its own."""

THREAT_LIMIT = 256 * KIB
"""One threat report."""

POLICY_LIMIT = 256 * KIB
"""An agent's effective policy, or one change of an organization's blocklist."""

BLOCKLIST_LIMIT = 2 * MIB
"""The retained snapshot of an organization's blocklist."""

BODY_LIMIT = 1 * MIB
"""The body of an HTTP request."""

AGENT_EMERGENCY_ENTRIES = 200
"""Live emergency entries in one agent's own policy; the first to expire makes room."""

ORGANIZATION_EMERGENCY_ENTRIES = 10_000
"""Live entries in one organization's blocklist; the first to expire makes room."""
