"""A guard that was taken over blocks few addresses that never attacked, for a day, and no /64."""

from tests.unit.fence.conftest import Bench

DAY = 86_400.0


def test_an_own_decision_without_a_witness_ends_after_a_day(bench: Bench) -> None:
    """The answer says how long it was taken for."""
    assert bench.as_guard("block", value="198.51.100.7", seconds=30 * DAY)["seconds"] == DAY


def test_an_own_decision_longer_than_the_longest_is_taken_for_the_longest(bench: Bench) -> None:
    """The worst repeat offenders are blocked, though the policy asks for more than thirty days."""
    bench.seen.add((22, "198.51.100.7"))
    answer = bench.as_guard("block", value="198.51.100.7", seconds=90 * DAY, port=22)
    assert (answer["outcome"], answer["seconds"]) == ("taken", 30 * DAY)
    assert bench.ask("block", value="198.51.100.8", seconds=90 * DAY)["outcome"] == "refused"


def test_a_subnet_needs_a_witness(bench: Bench) -> None:
    """Without one a /64 would be wider than what anybody has shown."""
    assert bench.as_guard("block", value="2001:db8:1::/64", seconds=60)["outcome"] == "refused"


def test_live_targets_without_a_witness_are_capped(bench: Bench) -> None:
    """Twenty in five minutes would else be thousands in a day."""
    taken = 0
    for number in range(220):
        bench.now += 16
        taken += bench.as_guard("block", value=f"198.51.100.{number}", seconds=DAY)["outcome"] == "taken"
    assert taken == 200


def test_a_block_without_a_witness_is_not_made_one_with_a_witness_by_asking_again(bench: Bench) -> None:
    """It would last for thirty days, and would not count among those without a witness any more."""
    assert bench.as_guard("block", value="198.51.100.7", seconds=DAY)["outcome"] == "taken"
    again = bench.as_guard("block", value="198.51.100.7", seconds=30 * DAY, port=22)
    assert (again["outcome"], "never spoke to port 22" in again["reason"]) == ("refused", True)
    assert bench.ask("list")["entries"][0]["secondsLeft"] <= DAY
    bench.seen.add((22, "198.51.100.7"))
    assert bench.as_guard("block", value="198.51.100.7", seconds=2 * DAY, port=22)["seconds"] == 2 * DAY


def test_a_block_is_prolonged_on_the_port_of_its_witness(bench: Bench) -> None:
    """The kernel forgets a blocked address after ten minutes, as nothing is sent to it."""
    bench.seen.add((22, "198.51.100.7"))
    assert bench.as_guard("block", value="198.51.100.7", seconds=60, port=22)["outcome"] == "taken"
    bench.seen.clear()
    assert bench.as_guard("block", value="198.51.100.7", seconds=600, port=22)["outcome"] == "taken"
