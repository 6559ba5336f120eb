"""The kernel's table follows the manifest, also after a change that the kernel refused."""

from ipaddress import ip_address, ip_network

from tests.unit.fence.conftest import Bench

ADDRESS, OTHER = "198.51.100.7", "198.51.100.8"


def test_a_success_does_not_hide_an_earlier_failed_lift(bench: Bench) -> None:
    """The next change that the kernel takes sets everything anew."""
    bench.ask("block", value=ADDRESS, seconds=600)
    bench.kernel.refuses = True
    assert bench.ask("lift", value=ADDRESS)["outcome"] == "failed"
    bench.kernel.refuses = False
    bench.ask("block", value=OTHER, seconds=600)
    assert bench.blocked == {OTHER}


def test_a_failed_change_of_the_accepted_networks_is_made_up_for(bench: Bench) -> None:
    """The never-set is part of what a later success sets."""
    bench.kernel.refuses = True
    topic_never = bench.take(1, ADDRESS, OTHER)
    assert topic_never["outcome"] == "failed"
    assert bench.ask("check")["outcome"] == "failed"
    bench.kernel.refuses = False
    bench.ask("check")
    assert bench.blocked == {ADDRESS, OTHER}
    assert bench.ask("check")["failed"] == 0


def test_verify_removes_addresses_that_the_manifest_lacks(bench: Bench) -> None:
    """An element set by hand, or left by a failure, does not stay."""
    bench.ask("block", value=ADDRESS, seconds=600)
    bench.kernel.sets["block4"][OTHER] = 600.0
    assert bench.fence.enforcement.verify() == 1
    assert bench.blocked == {ADDRESS}


def test_verify_mends_ranges(bench: Bench) -> None:
    """A missing, a wrong and a surplus range are replaced."""
    bench.ask("block", value="198.51.100.0/28", seconds=600)
    bench.kernel.sets["blockrange4"] = {"198.51.100.0-198.51.100.7": 600.0}
    bench.kernel.sets["throttlerange4"] = {"203.0.113.0/28": 600.0}
    assert bench.fence.enforcement.verify() == 1
    assert set(bench.kernel.sets["blockrange4"]) == {"198.51.100.0-198.51.100.15"}
    assert bench.kernel.sets["throttlerange4"] == {}
    assert bench.fence.enforcement.verify() == 0


def test_an_operator_cannot_block_where_it_says_it_is_logged_in_from(bench: Bench) -> None:
    """The fence may not read the environment of others' processes, so the command sends it."""
    answer = bench.ask("block", value="198.51.100.0/28", seconds=60, operatorAt=[ADDRESS])
    assert (answer["outcome"], answer["reason"]) == ("refused", "you are logged in from it")
    assert bench.ask("block", value=OTHER, seconds=60, operatorAt=["nonsense", 3, ADDRESS])["outcome"] == "taken"


def test_lift_names_what_still_covers_the_address(bench: Bench) -> None:
    """An address inside a blocked network stays blocked."""
    bench.ask("block", value="198.51.100.0/28", seconds=60)
    bench.ask("block", value=ADDRESS, seconds=60)
    assert "198.51.100.0/28" in bench.ask("lift", value=ADDRESS)["reason"]


def test_what_the_host_comes_to_need_is_lifted_at_the_next_check(bench: Bench) -> None:
    """A gateway or name server of a renewed lease, an address of its own, a manager that has moved."""
    for value in ("198.51.100.1", "198.51.100.53", "198.51.100.0/28", "203.0.113.9"):
        assert bench.ask("block", value=value, seconds=600)["outcome"] == "taken"
    assert bench.take(1, "198.51.100.54")["set"] == 5
    (bench.home / "etc").mkdir()
    (bench.home / "etc/resolv.conf").write_text("nameserver 198.51.100.53\nnameserver 198.51.100.54\n")
    little = int.from_bytes(ip_address("198.51.100.1").packed, "little")
    (bench.home / "proc/net/route").write_text(f"head\neth0 00000000 {little:08X} 0003\n")
    bench.now += 30
    told = bench.ask("check")
    assert bench.blocked == {"203.0.113.9"}
    assert bench.kernel.sets["blockrange4"] == {}
    assert bench.kernel.never.overlaps(ip_network("198.51.100.1"))
    assert told["reasons"] == [{"value": "198.51.100.54", "reason": "it is a name server of this host"}]
