"""An attack over ssh on a booted host, and the times of its failures and of its end."""

import json
from collections import defaultdict

from benchmarks.pings import Pings
from tests.support.booted_host.attacker import WRONG, Attacker
from tests.support.booted_host.machine import BootedHost
from tests.support.waiting import eventually

_FIFTH = 5


def attack(attacker: Attacker, source: str) -> float:
    """Guess passwords from an address, three in each of two connections; return when the first packet was dropped.

    Times are epoch seconds.
    """
    with Pings(attacker.network, source, attacker.server) as pings:
        clients = [attacker.start("root", source, WRONG, WRONG, WRONG) for _ in range(2)]
        try:
            eventually(pings.is_dropped, 30, f"a block of {source}", 0.02)
        finally:
            for client in clients:
                attacker.end(client)
        return pings.first_dropped()


def fifth_failures(host: BootedHost) -> dict[str, float]:
    """Return by address when journald took the fifth refused password, in epoch seconds."""
    found = defaultdict(list)
    for text in host.run("journalctl", "--identifier=sshd", "--output=json").splitlines():
        entry = json.loads(text)
        words = str(entry["MESSAGE"]).split()
        if words[:5] == ["Failed", "password", "for", "root", "from"]:
            found[words[5]].append(int(entry["__REALTIME_TIMESTAMP"]) / 1e6)
    return {source: sorted(times)[_FIFTH - 1] for source, times in found.items() if len(times) >= _FIFTH}
