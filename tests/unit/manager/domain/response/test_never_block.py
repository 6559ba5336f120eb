"""Never-block rules, and forged attackers that neither get blocked nor use up the rate cap."""

import pytest

from manager.domain.correlation import Allowlist, Indicator
from manager.domain.instant import Instant
from manager.domain.networks import network_of
from manager.domain.response import EvidenceIndex, FleetAddresses, NeverBlock, ResponderSettings, ResponseState
from manager.domain.response.evidence_index import is_system_path
from manager.domain.response.never_block import unblockable
from manager.domain.response.operator_addresses import Operator, OperatorAddresses
from tests.support.responding import Scene

DAY = 86_400.0
EMBEDDING = ["64:ff9b::c633:6407", "2002:c633:6407::1", "2002:c633:6407::/48", "64:ff9b::c633:6400/120"]
"""Networks of NAT64 and 6to4 that contain 198.51.100.7."""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.10", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:7f00:1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("2002:7f00:1::1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.1.1", "link-local"),
        ("224.0.0.251", "multicast"),
        ("239.255.255.250", "multicast"),
        ("ff02::fb", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "broadcast"),
        ("198.51.100.1", "the manager's or the broker's own"),
        ("::ffff:198.51.100.1", "the manager's or the broker's own"),
        ("198.51.100.2", "the manager's or the broker's own"),
        ("192.0.2.77", "admin network"),
        ("2001:db8:ad::7", "admin network"),
        ("203.0.113.50", "allowlist"),
        ("203.0.113.129", "allowlist"),
        ("203.0.113.1", "gateway"),
        ("203.0.113.2", "address or a gateway of the fleet"),
        ("10.1.0.1", "gateway"),
        ("203.0.113.66", "logged in successfully on ag-2"),
    ],
)
def test_three_compromised_agents_block_nothing_that_must_not_be(address: str, reason: str) -> None:
    """No block anywhere, and the refusal is recorded with its reason."""
    allowed = Allowlist({"acme": ["203.0.113.50", "203.0.113.128/25"]})
    scene = Scene(own_addresses=["198.51.100.1", "198.51.100.2"], admin_networks=["192.0.2.0/24", "2001:db8:ad::/48"])
    never = scene.responder.never_block
    never.allowed = allowed
    never.fleet.set("ag-9", "acme", None, ["203.0.113.2/24", "203.0.113.1", "10.1.0.1"])
    for agent_id in ("ag-1", "ag-2", "ag-3"):
        login = {"lastLogin": scene.now - 6 * DAY} if (address, agent_id) == ("203.0.113.66", "ag-2") else {}
        scene.report(agent_id, ip=address, **login)
    assert len(scene.responder.entries) == 0
    (response,) = scene.responses.values()
    assert response.state is ResponseState.REFUSED
    assert reason in response.reason


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("0.0.0.0/0", "wider than /24"),
        ("203.0.112.0/23", "wider than /24"),
        ("::/0", "wider than /48"),
        ("2001:db8::/47", "wider than /48"),
        ("::ffff:0.0.0.0/96", "wider than /24"),
        ("::ffff:0:0/95", "IPv4-mapped"),
        ("64:ff9b::/95", "NAT64"),
        ("64:ff9b::/48", "NAT64"),
        ("64:ff9b::/96", "wider than /24"),
        ("64:ff9b::7f00:0/104", "wider than /24"),
        ("64:ff9b::7f00:0/120", "loopback"),
        ("64:ff9b::a9fe:a9fe/127", "link-local"),
        ("2002:7f00:1::/48", "loopback"),
        ("2002:7f00:1::/64", "loopback"),
        ("64:ff9b::c633:6400/120", None),
        ("2002:c633:6407::/48", None),
        ("127.0.0.0/24", "loopback"),
        ("203.0.113.0/24", None),
        ("2001:db8::/48", None),
        ("203.0.113.7", None),
        ("2001:db8::7", None),
    ],
)
def test_wide_prefixes_are_never_blocked(network: str, reason: str | None) -> None:
    """Anything wider than /24 or /48 is refused, an IPv4-mapped prefix as the IPv4 prefix that it is."""
    parsed = network_of(network)
    assert parsed is not None
    found = unblockable(parsed)
    assert found is None if reason is None else found is not None and reason in found


@pytest.mark.parametrize("network", ["203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/25", "192.168.7.0/24"])
def test_a_prefix_around_a_protected_address_is_never_blocked(network: str) -> None:
    """A CIDR is refused if any address in it is protected, although the CIDR itself stands on no list."""
    fleet = FleetAddresses()
    fleet.set("ag-1", "acme", "berlin", ["203.0.113.2", "192.168.7.9"])
    never = NeverBlock(lambda _: False, fleet, EvidenceIndex(), ["198.51.100.1"], ["192.0.2.64/26"])
    site = "berlin" if network.startswith("192.168") else None
    assert never.reason(Indicator("source_ip", network, "acme", site), 0.0) is not None


@pytest.mark.parametrize("value", EMBEDDING)
def test_ipv4_inside_ipv6_is_never_blocked_where_the_ipv4_address_is_not(value: str) -> None:
    """NAT64 and 6to4 lead packets to the IPv4 address: fleet, configured networks and operators protect it there."""
    fleet = FleetAddresses()
    fleet.set("ag-1", "acme", None, ["198.51.100.7"])
    operators = OperatorAddresses()
    operators.record("198.51.100.7", Operator("ann", "t"), Instant(0.0, 0.0))
    nobody = FleetAddresses()
    for never in (
        NeverBlock(lambda _: False, fleet, EvidenceIndex()),
        NeverBlock(lambda _: False, nobody, EvidenceIndex(), ["198.51.100.7"]),
        NeverBlock(lambda _: False, nobody, EvidenceIndex(), operators=operators),
    ):
        assert "it stands for 198.51.100." in str(never.reason(Indicator("source_ip", value, "acme", None), 0.0))
    free = NeverBlock(lambda _: False, nobody, EvidenceIndex())
    assert free.reason(Indicator("source_ip", value, "acme", None), 0.0) is None


def test_what_is_no_address_is_never_blocked() -> None:
    """Text that is no address gets a refusal, not an error."""
    never = NeverBlock(lambda _: False, FleetAddresses(), EvidenceIndex())
    assert never.reason(Indicator("source_ip", "eth0; rm", "acme", None), 0.0) == "it is no address"


def test_settings_that_are_no_networks_are_errors() -> None:
    """An admin network that cannot be read must not silently protect nothing."""
    with pytest.raises(ValueError, match=r"10\.0\.0\.256"):
        NeverBlock(lambda _: False, FleetAddresses(), EvidenceIndex(), (), ["10.0.0.256"])


def test_an_agent_protects_its_addresses_in_its_own_organization_and_site_only() -> None:
    """192.168.1.1 is another gateway elsewhere, and nobody shields an attacker from another organization's list."""
    fleet = FleetAddresses()
    fleet.set("ag-1", "acme", "berlin", ["192.168.1.1", "203.0.113.2"])
    assert fleet.holds("192.168.1.1", "acme", "berlin")
    assert not fleet.holds("192.168.1.1", "acme", "oslo")
    assert fleet.holds("203.0.113.2", "acme", None)
    assert not fleet.holds("203.0.113.2", "other", None)


def test_addresses_follow_the_agents() -> None:
    """An address counts as long as one agent has it: a new registration replaces, a removal forgets."""
    fleet = FleetAddresses()
    fleet.set("ag-1", "acme", None, ["203.0.113.2", "203.0.113.2", "nonsense", ""])
    fleet.set("ag-2", "acme", None, ["::ffff:203.0.113.2"])
    fleet.set("ag-1", "acme", None, ["203.0.113.3"])
    assert fleet.holds("203.0.113.2", "acme", None)
    fleet.discard("ag-2")
    fleet.discard("ag-2")
    assert not fleet.holds("203.0.113.2", "acme", None)
    fleet.discard("ag-1")
    assert len(fleet) == 0


@pytest.mark.parametrize(("age", "counts"), [(0, True), (7 * DAY, True), (7 * DAY + 1, False)])
def test_a_login_counts_for_seven_days(age: float, counts: bool) -> None:
    """An address that logged in 7 days ago is not blocked; a second more, and it is."""
    scene = Scene()
    for agent_id in ("ag-1", "ag-2"):
        scene.report(agent_id, ip="203.0.113.9", lastLogin=scene.now - age)
    assert (len(scene.responder.entries) == 0) is counts


def test_a_login_that_is_told_later_withdraws_the_block() -> None:
    """A login reported by the third agent withdraws the block everywhere, with the reason."""
    scene = Scene()
    scene.attack("203.0.113.9", ["ag-1", "ag-2"])
    scene.report("ag-3", ip="203.0.113.9", lastLogin="2027-01-14T00:00:00Z")
    assert scene.blocked_on("ag-1") == scene.blocked_in() == []
    assert "logged in successfully on ag-3" in scene.response("203.0.113.9").reason


@pytest.mark.parametrize("login", ["yesterday", None, True, [1], "2020-01-01T00:00:00", ""])
def test_what_is_no_recent_login_protects_nobody(login: object) -> None:
    """Evidence that is malformed or old leaves the block in force."""
    scene = Scene()
    for agent_id in ("ag-1", "ag-2"):
        scene.report(agent_id, ip="203.0.113.9", lastLogin=login)
    assert scene.blocked_on("ag-1") == ["203.0.113.9"]


def test_evidence_is_bounded_and_forgotten() -> None:
    """Evidence is dropped least recently renewed first, and after 7 days entirely."""
    evidence = EvidenceIndex(most=3)
    indicators = [Indicator("source_ip", f"203.0.113.{number}", "acme", None) for number in range(4)]
    for number, indicator in enumerate(indicators):
        evidence.record_login(indicator, "ag-1", float(number), float(number))
    assert [evidence.login(indicator, 4.0) is not None for indicator in indicators] == [False, True, True, True]
    evidence.expire(7 * DAY + 2.5)
    assert [indicator.value for indicator, kept in evidence.take_changes().items() if kept] == ["203.0.113.3"]
    evidence.expire(7 * DAY + 4)
    assert len(evidence) == 0


def test_the_path_in_evidence_can_be_stored() -> None:
    """A path is cut, and what is no Unicode in it escaped."""
    evidence = EvidenceIndex()
    evidence.record("acme", None, "ag-1", {"fileHash": "a" * 64, "filePath": "/bin/\ud800" + "x" * 5000}, 1.0)
    ((_, observed),) = evidence.take_changes().items()
    assert observed is not None
    assert observed.system_path is not None
    assert observed.system_path.startswith("/bin/\\ud800x")
    assert len(observed.system_path.encode()) == 256 + 5


@pytest.mark.parametrize(
    ("path", "system"),
    [
        ("/usr/bin/bash", True),
        ("/sbin/init", True),
        ("c:\\windows\\explorer.exe", True),
        ("/usr/local/bin/tool", False),
        ("/home/ann/bin/tool", False),
        ("/usr/bin/../../srv/x", False),
        ("/srv/usr/bin/x", False),
        ("/binary", False),
    ],
)
def test_where_systems_keep_their_programs(path: str, system: bool) -> None:
    """Only paths under the directories of the system itself count, and none that climbs out of them."""
    assert is_system_path(path) is system


def test_a_thousand_forged_attackers_in_a_minute() -> None:
    """Three agents forge 1,000 attackers: they get their share, honest agents' blocks get through, the rest waits."""
    scene = Scene()
    for number in range(1000):
        scene.attack(f"198.18.{number // 250}.{number % 250 + 1}", ["ag-evil-1", "ag-evil-2", "ag-evil-3"])
        scene.now += 0.06
    forged = sum(response.state is ResponseState.APPLIED for response in scene.responses.values())
    assert forged == 10
    scene.attack("203.0.113.9", ["ag-1", "ag-2"])
    assert scene.response("203.0.113.9").state is ResponseState.APPLIED
    scene.attack("203.0.113.10", ["ag-evil-1", "ag-3"])
    assert scene.response("203.0.113.10").state is ResponseState.PENDING_APPROVAL
    scene.report("ag-1", ip="203.0.113.10")
    assert scene.response("203.0.113.10").state is ResponseState.APPLIED
    assert scene.responder.responses.pending_count() == 990


def test_the_whole_fleet_makes_no_more_than_the_cap() -> None:
    """Forty compromised agents fill the window and no more; five minutes later the window is free again."""
    scene = Scene()
    pairs = [(f"ag-{2 * pair}", f"ag-{2 * pair + 1}") for pair in range(20)]
    for number in range(200):
        scene.attack(f"198.18.0.{number + 1}", pairs[number % 20])
    assert sum(response.state is ResponseState.APPLIED for response in scene.responses.values()) == 100
    scene.restart()
    scene.attack("203.0.113.8", pairs[0])
    assert scene.response("203.0.113.8").state is ResponseState.PENDING_APPROVAL
    scene.pass_time(300)
    scene.attack("203.0.113.9", pairs[0])
    assert scene.response("203.0.113.9").state is ResponseState.APPLIED


def test_one_token_makes_no_more_than_half_where_several_are_in_use() -> None:
    """A stolen token's agents fill half the window; the other half is there for the others'."""
    scene = Scene()
    scene.facts.tokens = {f"ag-{number}": "stolen" for number in range(40)} | {"ag-97": "b", "ag-98": "b", "ag-99": "c"}
    for number in range(100):
        scene.attack(f"198.18.0.{number + 1}", [f"ag-{number % 20 * 2}", f"ag-{number % 20 * 2 + 1}"])
    assert sum(response.state is ResponseState.APPLIED for response in scene.responses.values()) == 50
    scene.attack("203.0.113.8", ["ag-97", "ag-98"])
    scene.attack("203.0.113.9", ["ag-97", "ag-99"])
    assert {scene.response(ip).state for ip in ("203.0.113.8", "203.0.113.9")} == {ResponseState.APPLIED}


def test_one_token_for_the_whole_fleet_has_the_whole_cap() -> None:
    """With only one token in use, the share of a token does not apply."""
    scene = Scene(ResponderSettings(blocks=10, agent_share=1.0))
    scene.facts.tokens = {"ag-1": "a", "ag-2": "a"}
    for number in range(10):
        scene.attack(f"198.18.0.{number + 1}", ["ag-1", "ag-2"])
    assert {response.state for response in scene.responses.values()} == {ResponseState.APPLIED}
