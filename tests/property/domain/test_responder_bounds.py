"""The rate cap and the emergency entries against the same rules written naively, over everything there ever was."""

from dataclasses import dataclass, field
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.response import EmergencyEntries, EmergencyEntry, ResponderSettings, Subject
from manager.domain.response.rate_cap import Grant, RateCap
from tests.support.examples import examples

NOW = 1_800_000_000.0

asks = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 30.0, 149.5, 150.0, 300.0]),
        st.lists(st.integers(0, 7), min_size=1, max_size=5, unique=True),
    ),
    max_size=60,
)


def token_of(agent_id: str) -> str:
    """Return an agent's token: the first four agents came with one, the others with another."""
    return "a" if int(agent_id) < 4 else "b"


@dataclass
class NaiveCap:
    """Looks at every grant there ever was."""

    blocks: int
    agent_room: int
    token_room: int
    grants: list[Grant] = field(default_factory=list)

    def request(self, agent_ids: list[str], now: float, *, several_tokens: bool) -> tuple[str, ...] | None:
        recent = [grant for grant in self.grants if now - grant.at < 300]
        with_room = [
            agent_id
            for agent_id in agent_ids
            if sum(agent_id in grant.agent_ids for grant in recent) < self.agent_room
            and not (
                several_tokens and sum(token_of(agent_id) in grant.token_ids for grant in recent) >= self.token_room
            )
        ][:2]
        if len(recent) >= self.blocks or len(with_room) < 2:
            return None
        self.grants.append(Grant(now, tuple(with_room), tuple({token_of(agent_id) for agent_id in with_room})))
        return tuple(with_room)


@given(asks=asks, several_tokens=st.booleans(), restart_at=st.integers(0, 60))
@settings(max_examples=examples(300))
def test_the_rate_cap_is_the_naive_one(
    asks: list[tuple[float, list[int]]], several_tokens: bool, restart_at: int
) -> None:
    """The rate cap grants the same to the same two agents as a naive one, with a restart at any place."""
    limits = ResponderSettings(blocks=8, agent_share=0.4, token_share=0.5)
    cap, naive = RateCap(limits), NaiveCap(8, 3, 4)
    now = NOW
    for number, (wait, numbers) in enumerate(asks):
        now += wait
        if number == restart_at:
            cap = RateCap(limits)
            cap.load(grant for grant in reversed(naive.grants) if now - grant.at < 300)
        agent_ids = [str(each) for each in numbers]
        granted = cap.request(agent_ids, token_of, now, several_tokens=several_tokens)
        expected = naive.request(agent_ids, now, several_tokens=several_tokens)
        assert (granted.agent_ids if isinstance(granted, Grant) else None) == expected
        for end in (grant.at for grant in naive.grants):
            window = [grant for grant in naive.grants if end - 300 < grant.at <= end]
            assert len(window) <= 8
            assert all(sum(str(agent) in grant.agent_ids for grant in window) <= 3 for agent in range(8))


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.integers(0, 2), st.sampled_from(["agent", "organization"]), st.integers(0, 7),
            st.sampled_from([1.0, 2.0, 5.0, 5.5, 60.0]),
        ),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.0, 10.0])),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("restart")),
    ),
    max_size=60,
)  # fmt: skip


class NaiveEntries:
    """A plain list of the live entries."""

    def __init__(self, room: dict[str, int]) -> None:
        self.live: list[EmergencyEntry] = []
        self.room = room

    def put(self, entry: EmergencyEntry) -> tuple[bool, list[EmergencyEntry]]:
        same_holder = [each for each in self.live if (each.scope, each.target) == (entry.scope, entry.target)]
        known = [each for each in same_holder if each.subject == entry.subject]
        gone: list[EmergencyEntry] = []
        if known and known[0].expires_at >= entry.expires_at:
            return False, gone
        if known:
            gone = known
        elif len(same_holder) >= self.room[entry.scope]:
            gone = sorted(same_holder, key=lambda each: (each.expires_at, each.created_at, each.id))[:1]
        self.live = [each for each in self.live if each not in gone] + [entry]
        return True, gone


@given(steps=steps)
@settings(max_examples=examples(300))
def test_emergency_entries_are_the_naive_ones(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Bounded by holder, the first to expire making room; ended on time; found by holder, subject and id alike."""
    limits = ResponderSettings(agent_entries=3, organization_entries=5)
    entries, naive = EmergencyEntries(limits), NaiveEntries({"agent": 3, "organization": 5})
    ids, now = count(), NOW
    for step in steps:
        match step:
            case ("put", holder, scope, value, lasts):
                subject = Subject("ip", f"203.0.113.{value}", "acme", None)
                entry = EmergencyEntry(
                    f"ent-{next(ids):03}", scope, f"holder-{holder}", subject, "r", "i", now, now + lasts
                )
                assert tuple(entries.put(entry)) == naive.put(entry)
            case ("wait", seconds):
                now += seconds
                due = sorted(each.id for each in naive.live if each.expires_at <= now)
                naive.live = [each for each in naive.live if each.expires_at > now]
                assert sorted(each.id for each in entries.expire(now)) == due
            case ("remove", position) if position < len(naive.live):
                entries.remove(naive.live.pop(position))
            case ("restart",):
                entries = EmergencyEntries(limits)
                entries.load(reversed(naive.live))
        assert sorted(entries, key=lambda each: each.id) == sorted(naive.live, key=lambda each: each.id)
        assert entries.next_expiry() == min((each.expires_at for each in naive.live), default=None)
        for each in naive.live:
            assert entries.get(each.id) is each
            assert each in entries.list_of(each.scope, each.target)
            assert each in entries.list_about(each.subject)
        assert {subject.value for subject in entries.subjects()} == {each.value for each in naive.live}
