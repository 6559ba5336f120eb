"""Held-back reports against an oracle that reads the whole history at each check."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents.held_back import HeldBackReports
from manager.domain.instant import Instant
from tests.support.examples import examples

AFTER = 90.0
AGENTS = ("ag-1", "ag-2")


@dataclass(frozen=True)
class Step:
    """One step after a while: a heartbeat, a stored report, a change of hearing or state, a check."""

    pause: float
    kind: str
    agent_id: str
    waiting: int
    session: int


steps = st.lists(
    st.builds(
        Step,
        pause=st.sampled_from([0.0, 1.0, 30.0, 45.0, 89.0, 90.0]),
        kind=st.sampled_from(["heartbeat", "heartbeat", "stored", "deaf", "hears", "goes", "comes", "look", "look"]),
        agent_id=st.sampled_from(AGENTS),
        waiting=st.sampled_from([0, 1, 1, 7]),
        session=st.sampled_from([1, 1, 1, 2]),
    ),
    min_size=1,
    max_size=25,
)

Story = list[tuple[float, Step]]


def oracle(story: Story) -> dict[str, tuple[int, float]]:
    """Return waiting and since of the agents that are held back, from the whole story."""
    hearing: float | None = 0.0
    for at, step in story:
        if step.kind == "deaf":
            hearing = None
        elif step.kind == "hears" and hearing is None:
            hearing = at
    assert hearing is not None
    found = {}
    for agent_id in AGENTS:
        own = [(at, step) for at, step in story if step.agent_id == agent_id]
        moves = [step.kind for _, step in own if step.kind in ("goes", "comes")]
        beats = [(at, step) for at, step in own if step.kind == "heartbeat"]
        run = beats[:0]
        for at, step in beats:
            if not step.waiting or (run and run[-1][1].session != step.session):
                run = []
            if step.waiting:
                run = [*run, (at, step)]
        if not run or moves[-1:] == ["goes"]:
            continue
        begun = own.index(run[0])
        since = max([run[0][0], *(at for at, step in own[begun:] if step.kind == "stored")])
        if run[-1][0] - max(since, hearing) >= AFTER:
            found[agent_id] = (run[-1][1].waiting, since)
    return found


@given(steps)
@settings(max_examples=examples(400))
def test_what_is_held_back_is_what_the_story_says(taken: list[Step]) -> None:
    """At each look the found ones are the oracle's, each is told once, and told again when it is over."""
    rule, story = HeldBackReports(AFTER), Story()
    now, hearing, away, told = 0.0, 0.0, set[str](), set[str]()
    deaf = False
    for step in taken:
        now += step.pause
        moment = Instant(1_800_000_000.0 + now, now)
        story.append((now, step))
        match step.kind:
            case "heartbeat":
                rule.record_outbox(step.agent_id, step.session, step.waiting, moment)
            case "stored":
                rule.record_stored(step.agent_id, moment)
            case "deaf":
                deaf = True
            case "hears":
                hearing, deaf = (now if deaf else hearing), False
            case "goes":
                away.add(step.agent_id)
            case "comes":
                away.discard(step.agent_id)
            case "look":
                begun, over = rule.check(lambda agent_id: agent_id not in away, None if deaf else hearing)
                if deaf:
                    assert (begun, over) == ([], [])
                    continue
                found = {each.agent_id: (each.waiting, each.since - 1_800_000_000.0) for each in rule.current}
                assert found == oracle(story)
                assert {each.agent_id for each in begun} == set(found) - told
                assert set(over) == told - set(found)
                told = set(found)
