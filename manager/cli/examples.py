"""Examples in the help of `panguard manager` and its commands. A test parses each of them."""

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "": """
panguard manager start --data-dir data/manager --detach
panguard manager agents list --data-dir data/manager
panguard manager now --manager https://manager:8443 --ca-file ca.crt --auth-token-file admin.token
""",
        "start": """
panguard manager start --data-dir data/manager --detach
panguard manager start --config manager.toml
panguard manager start --host 0.0.0.0 --broker mqtts://broker.example.org:8883
""",
        "stop": "panguard manager stop --data-dir data/manager",
        "status": """
panguard manager status
panguard manager status -o json
""",
        "step-down": "panguard manager step-down --data-dir data/manager",
        "health": "panguard manager health --manager https://manager:8443",
        "now": "panguard manager now",
        "replay": "panguard manager replay --settings examples/replay.json --since 7d",
        "migrate": """
panguard manager migrate --to postgresql://panguard@db.example/panguard --dry-run
panguard manager migrate --to postgresql://panguard@db.example/panguard --database-password-file db.password
""",
        "config": """
panguard manager config --data-dir data/manager
panguard manager config --config manager.toml -o json
""",
        "traffic": """
panguard manager traffic --topic threats --topic heartbeat
panguard manager traffic --count 1 -o json
""",
        "access": "panguard manager access create --name alice --role viewer --expires 90d",
        "access create": """
panguard manager access create --name alice --role viewer --expires 90d
panguard manager access create --name firewall --role feed --organization acme -o json
""",
        "access list": "panguard manager access list",
        "access revoke": "panguard manager access revoke alice",
        "access rotate": "panguard manager access rotate alice --expires 90d",
        "agents": """
panguard manager agents list --status stale
panguard manager agents show web-1
""",
        "agents list": """
panguard manager agents list --status stale --sort heartbeat
panguard manager agents list --tag web --site berlin -o wide
""",
        "agents show": "panguard manager agents show web-1",
        "agents vitals": "panguard manager agents vitals web-1",
        "agents set": """
panguard manager agents set web-1 web-2 --tag web --untag test
panguard manager agents set --where-site berlin --tag eu --dry-run
panguard manager agents set web-1 --site berlin --organization acme
""",
        "agents prune": """
panguard manager agents prune --older-than 30d --dry-run
panguard manager agents prune --older-than 30d --yes
""",
        "agents remove": "panguard manager agents remove web-1",
        "allowlist": "panguard manager allowlist add 198.51.100.0/24",
        "allowlist add": """
panguard manager allowlist add 198.51.100.0/24
panguard manager allowlist add --kind process backup-agent --organization acme
""",
        "allowlist list": "panguard manager allowlist list --organization acme",
        "allowlist remove": "panguard manager allowlist remove 198.51.100.0/24",
        "audit": "panguard manager audit list --since 7d",
        "audit list": "panguard manager audit list --since 7d --action policy",
        "audit export": "panguard manager audit export --since 30d --format csv --file audit.csv",
        "blocks": """
panguard manager blocks add 203.0.113.9 --for 4h --reason "scans our mail servers"
panguard manager blocks list --value 203.0.113.9
panguard manager blocks lift 203.0.113.9
""",
        "blocks add": """
panguard manager blocks add 203.0.113.9 --for 4h --reason "scans our mail servers"
panguard manager blocks add 203.0.113.0/24 --for 7d --group web
""",
        "blocks import": """
panguard manager blocks import bad.txt --dry-run
panguard manager blocks import bad.csv --for 7d --reason "list of our provider"
""",
        "blocks list": "panguard manager blocks list --value 203.0.113.9",
        "blocks lift": "panguard manager blocks lift 203.0.113.9",
        "blocks remove": "panguard manager blocks remove blk-0123456789abcdef",
        "broker": "panguard manager broker init --directory broker --host 0.0.0.0",
        "broker init": "panguard manager broker init --directory broker --host 0.0.0.0 --data-dir data/manager",
        "certs": "panguard manager certs init --host manager.example.org",
        "certs init": "panguard manager certs init --host manager.example.org --host 192.0.2.10 --days 90d",
        "certs renew": "panguard manager certs renew --days 90d",
        "certs list": "panguard manager certs list",
        "clock": "panguard manager clock accept",
        "clock accept": "panguard manager clock accept",
        "groups": "panguard manager groups set web --tag web --priority 10 --mode protection",
        "groups list": "panguard manager groups list",
        "groups set": """
panguard manager groups set web --tag web --priority 10 --mode protection --dry-run
panguard manager groups set web --mode protection
""",
        "groups show": "panguard manager groups show web",
        "groups remove": "panguard manager groups remove web --dry-run",
        "incidents": """
panguard manager incidents list
panguard manager incidents show inc-0123456789abcdef
""",
        "incidents list": "panguard manager incidents list --value 203.0.113.9",
        "incidents show": "panguard manager incidents show inc-0123456789abcdef",
        "incidents approve": "panguard manager incidents approve inc-0123456789abcdef",
        "incidents undo": "panguard manager incidents undo inc-0123456789abcdef",
        "incidents acknowledge": 'panguard manager incidents acknowledge inc-0123456789abcdef --note "I look into it"',
        "incidents note": 'panguard manager incidents note inc-0123456789abcdef "asked the provider"',
        "incidents close": "panguard manager incidents close inc-0123456789abcdef",
        "key-file": "panguard manager key-file rotate --data-dir data/manager --dry-run",
        "key-file rotate": """
panguard manager key-file rotate --data-dir data/manager
""",
        "keys": "panguard manager keys status",
        "keys status": """
panguard manager keys status
panguard manager keys status -o json
""",
        "keys rotate": """
panguard manager keys rotate --dry-run
panguard manager keys rotate --compromised --yes
""",
        "keys rollback": "panguard manager keys rollback",
        "notifications": "panguard manager notifications test ops",
        "notifications list": "panguard manager notifications list",
        "notifications test": "panguard manager notifications test ops",
        "notifications history": "panguard manager notifications history --channel ops",
        "notifications pause": "panguard manager notifications pause ops --for 2h",
        "notifications continue": "panguard manager notifications continue ops",
        "notifications acknowledge": "panguard manager notifications acknowledge waits-12",
        "notifications mute": "panguard manager notifications mute --site vienna --for 2h --reason maintenance",
        "notifications unmute": "panguard manager notifications unmute mute-3a315f94",
        "policies": """
panguard manager policies set --global --file examples/policy.json --dry-run
panguard manager policies explain web-1
""",
        "policies set": """
panguard manager policies set --global --file examples/policy.json --dry-run
panguard manager policies set --organization acme --file policy.json -m "quarterly review"
""",
        "policies get": "panguard manager policies get --agent web-1 --effective",
        "policies list": "panguard manager policies list",
        "policies remove": "panguard manager policies remove --organization acme --dry-run",
        "policies history": "panguard manager policies history --limit 10",
        "policies diff": "panguard manager policies diff --from 12 --to 14",
        "policies rollback": "panguard manager policies rollback 12 --dry-run",
        "policies drift": "panguard manager policies drift",
        "policies explain": "panguard manager policies explain web-1",
        "policies broadcast": "panguard manager policies broadcast",
        "protection": "panguard manager protection forecast --group web",
        "protection forecast": "panguard manager protection forecast --group web --days 7d",
        "responses": "panguard manager responses status",
        "responses status": "panguard manager responses status",
        "responses freeze": "panguard manager responses freeze",
        "responses thaw": "panguard manager responses thaw",
        "responses organization": "panguard manager responses organization vouched",
        "threats": "panguard manager threats list --source 203.0.113.9 --since 7d",
        "threats list": """
panguard manager threats list --source 203.0.113.9 --since 7d
panguard manager threats list --technique T1110 --severity high
""",
        "threats show": "panguard manager threats show 0190c7a2-7b1e-7000-8000-000000000000",
        "threats recognize": """
panguard manager threats recognize 0190c7a2-7b1e-7000-8000-000000000000 --note "mistyped my password"
""",
        "threats unrecognize": "panguard manager threats unrecognize 0190c7a2-7b1e-7000-8000-000000000000",
        "tokens": "panguard manager tokens create --name web --tag web --expires 24h",
        "tokens create": """
panguard manager tokens create --name web --tag web --expires 24h --uses 20
panguard manager tokens create --name autoscaling --ephemeral --keep-in enroll.token
""",
        "tokens list": "panguard manager tokens list",
        "tokens revoke": "panguard manager tokens revoke web",
        "tokens rotate": "panguard manager tokens rotate web --keep-in enroll.token",
    }
)
"""Command lines by the words behind `panguard manager`, one in each line."""
