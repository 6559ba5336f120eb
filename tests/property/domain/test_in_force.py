"""An agent's words on its policy, late, again and out of order, against an oracle that knows when each was spoken."""

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents.agent import InForce
from tests.support.examples import examples

Word = tuple[int, str, str, str | None, float]

STATES = [("applied", None), ("partial", "detection: no"), ("failed", "no room")]


def _spoken(steps: list[tuple[int, tuple[str, str | None]]]) -> list[Word]:
    """Return what an agent says one after another: versions that never fall, each second another word."""
    words, version = [], 1
    for second, (rise, (state, error)) in enumerate(steps):
        version += rise
        words.append((version, f"digest of {version}", state, error, float(second)))
    return words


steps = st.lists(st.tuples(st.sampled_from([0, 0, 1]), st.sampled_from(STATES)), min_size=1, max_size=8)
deliveries = steps.map(_spoken).flatmap(lambda words: st.lists(st.sampled_from(words), min_size=1, max_size=20))


@given(deliveries)
@settings(max_examples=examples(300))
def test_only_the_newest_word_counts(delivered: list[Word]) -> None:
    """The policy in force is the newest of all accepted statements, however they are repeated, delayed or mixed."""
    force = InForce()
    for number, word in enumerate(delivered, 1):
        before = (force.version, force.digest, force.state, force.error)
        news = force.update_if_newer(*word)
        newest = max(delivered[:number], key=lambda each: each[-1])
        now = (force.version, force.digest, force.state, force.error)
        assert now == newest[:-1]
        assert news == (now != before)


@given(deliveries, st.floats(0, 20))
def test_a_heartbeat_is_believed_whatever_the_clocks_do(delivered: list[Word], at: float) -> None:
    """A word that cannot be old is taken, a lower version too: a guard may have been restored."""
    force = InForce()
    for word in delivered:
        force.update_if_newer(*word)
    force.update(0, None, None, None, at)
    assert (force.version, force.digest, force.state) == (0, None, None)


def test_agents_share_equal_statements_and_a_change_reaches_one_agent_alone() -> None:
    first, second = InForce.of(3, "digest", "applied"), InForce()
    second.update(3, "digest", "applied", None, 1.0)
    assert first.stated is second.stated
    first.restate("failed", "no room")
    assert (first.version, first.state, first.error) == (3, "failed", "no room")
    assert (second.version, second.state, second.error) == (3, "applied", None)
