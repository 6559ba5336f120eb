"""The manager's measures: refusals, numbers and ends stay true over restarts, new enrollments and set clocks."""

from collections.abc import Callable

import pytest

from tests.unit.fence.conftest import KEY, NEXT_KEY, SENT_AT, Bench, raw

ADDRESS, OTHER, PRIVATE = "198.51.100.7", "198.51.100.8", "10.1.2.3"


def _left(bench: Bench, value: str = ADDRESS) -> float | None:
    entries = bench.ask("list", value=value)["entries"]
    return float(entries[0]["secondsLeft"]) if entries else None


def test_a_refused_address_is_named_as_the_manager_names_it(bench: Bench) -> None:
    """The manager looks for `10.1.2.3` among the reasons, not for a network."""
    assert bench.take(1, PRIVATE)["reasons"][0]["value"] == PRIVATE


def test_refusals_outlive_a_restart(bench: Bench) -> None:
    """Else the same sequence without a reason would count as enforced."""
    before = bench.take(1, PRIVATE, OTHER)
    bench.restart()
    after = bench.ask("check")
    assert (after["refused"], after["reasons"]) == (1, before["reasons"])


def test_after_panic_and_resume_the_same_sequence_is_wanted_and_set_again(bench: Bench) -> None:
    """The guard feeds a fence that has a smaller number than itself."""
    bench.take(9, ADDRESS)
    bench.ask("panic")
    assert bench.ask("check")["blocklistSequence"] == 0
    bench.ask("resume")
    assert bench.ask("check")["blocklistSequence"] == 0
    assert bench.take(9, ADDRESS)["blocklistSequence"] == 9
    assert bench.blocked == {ADDRESS}


def test_a_managed_address_that_root_lifts_becomes_a_reason(bench: Bench) -> None:
    """The number stays in force, so the address that is not must be named."""
    bench.take(9, ADDRESS, OTHER)
    bench.ask("lift", value=ADDRESS)
    answer = bench.ask("check")
    assert (answer["refused"], answer["reasons"]) == (1, [{"value": ADDRESS, "reason": "root lifted it on this host"}])
    assert bench.take(10, ADDRESS, OTHER)["refused"] == 0


@pytest.mark.parametrize("first", ["policy", "blocklist"])
def test_an_address_on_the_agents_allowlist_is_a_reason_in_either_order(bench: Bench, first: str) -> None:
    """The sequence counts as in force, so that the address would else count as enforced; after a restart, too."""
    if first == "blocklist":
        bench.take(9, ADDRESS, OTHER)
        bench.take_policy(1, "198.51.100.9", allowlist=["198.51.100.0/29", "198.51.100.9"])
    else:
        bench.take_policy(1, "198.51.100.9", allowlist=["198.51.100.0/29", "198.51.100.9"])
        bench.take(9, ADDRESS, OTHER)
    expected = {(each, "it is on the allowlist of the policy") for each in (ADDRESS, "198.51.100.9")}
    for answer in (bench.ask("check"), bench.restart() or bench.ask("check")):
        assert (answer["policyVersion"], answer["blocklistSequence"], answer["refused"]) == (1, 9, 2)
        assert {(each["value"], each["reason"]) for each in answer["reasons"]} == expected
    assert bench.blocked == {OTHER}


def test_an_address_that_the_agents_allowlist_does_not_spare_any_more_is_set_again(bench: Bench) -> None:
    """At once, and without the list."""
    bench.take(9, ADDRESS, OTHER, PRIVATE)
    bench.take_policy(1, allowlist=[ADDRESS])
    bench.take_policy(2, allowlist=[ADDRESS, "192.0.2.1"])
    assert bench.blocked == {OTHER}
    answer = bench.take_policy(3)
    assert (answer["blocklistSequence"], answer["refused"]) == (9, 1)
    assert bench.blocked == {ADDRESS, OTHER}


def test_a_block_without_an_end_that_ended_by_the_longest_time_becomes_a_reason(bench: Bench) -> None:
    """The manager's list has it still."""
    bench.take(9, ADDRESS, seconds=None)
    bench.now += 31 * 86_400
    answer = bench.ask("check")
    assert (answer["measures"], answer["reasons"][0]["value"]) == (0, ADDRESS)


def test_a_block_that_ends_as_signed_is_no_reason(bench: Bench) -> None:
    """Its end is no refusal."""
    bench.take(9, ADDRESS)
    bench.now += 601
    assert (bench.ask("check")["measures"], bench.ask("check")["refused"]) == (0, 0)


def test_entries_that_a_wall_clock_ahead_ended_at_boot_are_wanted_again(bench: Bench) -> None:
    """The guard passes the list on again, and the manager's time decides."""
    bench.take(9, ADDRESS)
    bench.fence.mark_time()
    bench.boot, bench.now, bench.wall = "boot-2", 20.0, SENT_AT + 10 * 86_400
    bench.restart()
    assert (bench.blocked, bench.ask("check")["blocklistSequence"]) == (set(), 0)


def test_a_new_signer_begins_its_own_numbers_and_the_earlier_ones_are_no_way_back(bench: Bench) -> None:
    """Sequence 3 of a new manager counts after 57 of the old one, whose 57 counts no more."""
    bench.take(57, ADDRESS)
    bench.restart(sign_keys=(raw(NEXT_KEY),))
    assert bench.ask("check")["blocklistSequence"] == 0
    assert bench.take(3, OTHER, key=NEXT_KEY)["blocklistSequence"] == 3
    assert bench.blocked == {OTHER}
    bench.restart(sign_keys=(raw(NEXT_KEY), raw(KEY)))
    assert bench.take(57, ADDRESS)["outcome"] == "refused"
    assert bench.blocked == {OTHER}


def test_a_new_enrollment_begins_with_its_own_numbers(bench: Bench) -> None:
    """A manager with a new store and its old key counts from one."""
    bench.take(57, ADDRESS)
    bench.restart(agent_id="ag-fedcba9876543210")
    assert bench.ask("check")["blocklistSequence"] == 0
    assert bench.take(3, OTHER)["blocklistSequence"] == 3
    assert bench.take(2, ADDRESS)["outcome"] == "refused"


def test_an_older_number_is_refused_with_the_remedy(bench: Bench) -> None:
    """The operator reads what to run."""
    bench.take(57, ADDRESS)
    assert "panguard guard install" in bench.take(3, OTHER)["reason"]


def test_a_replay_after_a_restart_does_not_prolong_a_block(bench: Bench) -> None:
    """The manager's time is kept for this boot."""
    bench.take(9, ADDRESS)
    bench.now += 400
    bench.restart()
    bench.take(9, ADDRESS)
    assert _left(bench) == 200


def test_a_replay_after_a_reboot_does_not_prolong_a_block(bench: Bench) -> None:
    """The manager's time is carried over with the measures."""
    bench.take(9, ADDRESS)
    bench.now, bench.wall = bench.now + 400, bench.wall + 400
    bench.fence.mark_time()
    bench.boot, bench.now, bench.wall = "boot-2", 20.0, bench.wall + 100
    bench.restart()
    bench.take(9, ADDRESS)
    assert _left(bench) == 100


def test_a_manager_clock_that_was_set_back_voids_no_block(bench: Bench) -> None:
    """A greater number signed earlier shows it."""
    bench.take(1, OTHER, sent_at=SENT_AT + 86_400)
    bench.take(2, ADDRESS)
    assert _left(bench) == 600


def test_a_block_that_had_ended_when_it_arrived_becomes_a_reason(bench: Bench) -> None:
    """It is not in force, so it must not count as enforced."""
    bench.take(1, OTHER)
    bench.now += 601
    answer = bench.take(1, ADDRESS)
    assert (answer["refused"], "ended" in answer["reasons"][0]["reason"]) == (1, True)


def test_entries_beyond_the_limit_are_counted_as_refused(make_bench: Callable[..., Bench]) -> None:
    """They do not vanish."""
    bench = make_bench()
    values = [f"198.18.{number // 256}.{number % 256}" for number in range(10_203)]
    assert bench.take(1, *values)["refused"] == 3
