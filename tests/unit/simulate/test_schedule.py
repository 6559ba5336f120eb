"""The schedule comes from the seed alone, keeps its shares, and names only reserved addresses."""

from collections import defaultdict
from ipaddress import ip_address, ip_network

import pytest

from simulate.schedule import cuts, detections, hostname
from tests.unit.simulate.plans import plan

RESERVED = [ip_network(text) for text in ("198.18.0.0/15", "2001:db8::/32")]


def test_the_same_seed_gives_the_same_run() -> None:
    """Attackers, severities, times and planted faults repeat with the seed, and change with it."""
    one, again, other = (plan(agents=40, threats=400, cuts=9, repeats=0.1, seed=seed) for seed in (7, 7, 8))
    assert list(detections(one)) == list(detections(again)) != list(detections(other))
    assert cuts(one) == cuts(again) != cuts(other)
    assert hostname(7, 3) == "sim-7-00003" != hostname(8, 3)


@pytest.mark.parametrize(("agents", "threats", "share"), [(40, 1000, 0.3), (2, 101, 1.0), (3, 50, 0.5), (500, 26, 1.0)])
def test_shared_attackers_have_their_share(agents: int, threats: int, share: float) -> None:
    """So many reports name an attacker that two agents or more report; all others name one that nobody else does."""
    victims, shared = defaultdict(set), 0
    for each in detections(plan(agents=agents, threats=threats, shared_attackers=share)):
        victims[each.source_ip, each.is_shared].add(each.agent)
        shared += each.is_shared
    assert shared == round(share * threats)
    assert all((len(agents) > 1) == is_shared for (_, is_shared), agents in victims.items())
    own = [address for address, is_shared in victims if not is_shared]
    assert len(own) == threats - shared


def test_one_agent_shares_with_nobody() -> None:
    """A single agent has attackers of its own, whatever the share."""
    assert not any(each.is_shared for each in detections(plan(agents=1, threats=20, shared_attackers=1.0)))


def test_times_keep_the_rate() -> None:
    """Reports come in order, one in each interval of the rate."""
    times = [each.at for each in detections(plan(threats=1000, rate=50))]
    assert times == sorted(times)
    assert all(number / 50 <= at < (number + 1) / 50 for number, at in enumerate(times))
    assert all(0 <= cut.at <= 20 for cut in cuts(plan(threats=1000, rate=50, cuts=100)))


def test_a_burst_is_made_at_one_moment() -> None:
    """So many reports have one time, and those of attackers of one agent have one agent; the rate stays."""
    made = list(detections(plan(agents=9, threats=40_010, rate=100, burst=5, shared_attackers=0.3)))
    bursts = [made[start : start + 5] for start in range(0, len(made), 5)]
    assert all(len({each.at for each in burst}) == 1 for burst in bursts)
    assert all(burst[0].is_shared or len({each.agent for each in burst if not each.is_shared}) == 1 for burst in bursts)
    assert len({burst[0].at for burst in bursts}) == len(bursts) == 8_002
    assert sum(each.is_shared for each in made) == 12_003
    assert 400 <= made[-1].at < 400.1


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_unvouched_and_repeated_reports_have_their_shares(share: float) -> None:
    """The shares are met exactly."""
    made = list(detections(plan(threats=200, unvouched=share, repeats=share)))
    assert sum(not each.is_vouched for each in made) == sum(each.is_repeated for each in made) == round(share * 200)


def test_only_reserved_addresses_attack() -> None:
    """Beyond the IPv4 ranges too, every attacker has an address of its own in a range for tests and documentation."""
    made = list(detections(plan(agents=3, threats=70_000, shared_attackers=0.02)))
    addresses = {ip_address(each.source_ip) for each in made}
    assert all(any(address in network for network in RESERVED) for address in addresses)
    assert len({each.source_ip for each in made if not each.is_shared}) == 68_600
    assert {address.version for address in addresses} == {4, 6}
