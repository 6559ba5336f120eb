"""Hostile ids: separators, wildcards, look-alikes, and excessive lengths."""

VALID = {
    "agentId": "ag-0123456789abcdef",
    "clientId": "0123456789abcdef0123456789abcdef",
    "organizationId": "acme",
    "event": "agent_stale",
}
"""An id of each kind."""

OTHER = {
    "agentId": "ag-fedcba9876543210",
    "clientId": "f" * 32,
    "organizationId": "other",
    "event": "policy_created",
}
"""Another id of each kind: somebody else's."""

_ANYWHERE = ["", " ", "+", "#", "/", "\0", "\n", "..\\", "%2f", "$SYS", "*", "?", "\ufeff", "\u200b", "a/b", "a/", "/a"]


def hostile(kind: str) -> list[str]:
    """Return texts that are no id of a kind, most of them one character away from one."""
    valid = VALID[kind]
    spoiled = [
        valid + tail for tail in ("\n", "\r\n", "\0", " ", "/", "+", "#", "/+", "/#", "\u0301", "\u0661", "\u200b")
    ]
    spoiled += [head + valid for head in ("\n", " ", "/", "+/", "\0", "\ufeff")]
    look_alikes = [
        valid.replace("a", "\u0430"),  # CYRILLIC SMALL LETTER A
        "".join(chr(ord(letter) + 0xFEE0) for letter in valid),  # full-width forms
        valid[:-1] + "\u0661",  # ARABIC-INDIC DIGIT ONE
        valid[:-1] + "\u00b2",  # SUPERSCRIPT TWO
        valid[:-1] + "\u212a",  # KELVIN SIGN, which lower-cases to k
    ]
    long = [valid * 700, "a" * 10_240, valid + "0" * 64]
    ours = {
        "agentId": [valid.upper(), "ag-0123456789ABCDEF", valid[3:], valid[:-1], valid + "0", "ag_0123456789abcdef"],
        "clientId": [valid.upper(), valid[:-1], valid + "0", "0x" + valid[2:], valid[:-1] + "g"],
        "organizationId": ["a" * 65, "a:b", "a b", "a@b", "a,b"],
        "event": [valid.upper(), "agent-stale", "agent_stale1", "a" * 65, "agent.stale"],
    }
    return [*_ANYWHERE, *spoiled, *look_alikes, *long, *ours[kind]]
