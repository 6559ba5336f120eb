"""Sessions of the console against a plain list of them: which are live after any order of openings, uses and ends."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.console_sessions import (
    SESSION_IDLE,
    SESSION_LIFETIME,
    SESSIONS_OF_TOKEN,
    ConsoleSession,
    ConsoleSessions,
)

TOKENS = [b"a", b"b"]
STEPS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(TOKENS)),
    st.tuples(st.just("use"), st.integers(0, 120)),
    st.tuples(st.just("close"), st.integers(0, 120)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 60.0, SESSION_IDLE - 1, SESSION_IDLE, SESSION_LIFETIME / 3])),
)


@dataclass
class Known:
    """A session as the plain list has it."""

    id: str
    token: bytes
    opened_at: float
    used_at: float
    ended: bool = False

    def is_live(self, now: float) -> bool:
        """Whether it may still be used."""
        return not self.ended and now - self.opened_at < SESSION_LIFETIME and now - self.used_at < SESSION_IDLE


@given(st.lists(STEPS, max_size=200))
def test_sessions_are_those_of_the_plain_list(steps: list[tuple[str, object]]) -> None:
    """Each that is live in the list is found live, no other is; what was used is named once for the store."""
    sessions, known, now = ConsoleSessions(), list[Known](), 1000.0
    for kind, value in steps:
        now += 0.001
        if kind == "wait":
            assert isinstance(value, float)
            now += value
        elif kind == "open":
            assert isinstance(value, bytes)
            own = [each for each in known if each.token == value and not each.ended]
            if len(own) >= SESSIONS_OF_TOKEN:
                min(own, key=lambda each: each.used_at).ended = True
            known.append(Known(str(len(known)), value, now, now))
            sessions.open(ConsoleSession(known[-1].id, value, now, now))
        elif known:
            assert isinstance(value, int)
            about = known[value % len(known)]
            session = sessions.find(about.id)
            if kind == "close":
                sessions.close(about.id)
                about.ended = True
            elif session is not None and session.is_live(now):
                sessions.note_use(session, now)
                about.used_at = now
                assert [each.id for each in sessions.used()] == [about.id]
                assert sessions.used() == []
        for each in known:
            found = sessions.find(each.id)
            assert (found is not None and found.is_live(now)) == each.is_live(now)
