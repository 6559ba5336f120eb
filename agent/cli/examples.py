"""Examples in the help of `panguard guard` and its commands. A test parses each of them."""

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "": """
panguard guard start --manager mqtts://manager.example.org --enroll-token-file enroll.token --detach
panguard guard status
panguard guard doctor
""",
        "start": """
panguard guard start --manager mqtts://manager.example.org --enroll-token-file enroll.token --detach
panguard guard start --manager https://manager.example.org --trust-log /var/log/auth.log --tag web
panguard guard start --config guard.toml
""",
        "config": "panguard guard config --config guard.toml",
        "stop": "panguard guard stop",
        "status": "panguard guard status -o json",
        "health": "panguard guard health --allow-degraded",
        "try": """
panguard guard try /var/log/auth.log
panguard guard try --sample ssh
""",
        "doctor": """
panguard guard doctor
panguard guard doctor --fix
""",
        "install": """
panguard guard install --manager mqtts://manager.example.org --enroll-token-file enroll.token
panguard guard install --manager https://manager.example.org --option --tag=web --mode protection
""",
        "block": 'panguard guard block 203.0.113.7 --for 4h --reason "guesses passwords"',
        "unblock": "panguard guard unblock 203.0.113.7",
        "undo": "panguard guard undo m-0123456789abcdef",
        "blocks": "panguard guard blocks list",
        "blocks list": "panguard guard blocks list 203.0.113.7",
        "panic": "panguard guard panic",
        "resume": "panguard guard resume",
        "mode": "panguard guard mode protection",
        "confirm": "panguard guard confirm",
        "outbox": "panguard guard outbox retry",
        "outbox retry": "panguard guard outbox retry",
    }
)
"""Command lines by the words behind `panguard guard`, one in each line."""
