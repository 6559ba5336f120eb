"""A backlog of any events is one summary, against an oracle that reads all of them."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.message import Change
from tests.support.judged import START, Events, JudgedChannel

BACK = START + 6 * 3600.0
STEPS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 60.0, 599.0, 600.0, 1200.0]),
        st.sampled_from(["login", "block", "stale", "online", "blocked"]),
        st.integers(0, 3),
    ),
    max_size=15,
)


@given(STEPS, st.sampled_from([0.0, 1.0, 9.0]))
def test_a_backlog_is_at_most_one_message_with_everything_that_matters(
    steps: list[tuple[float, str, int]], pause: float
) -> None:
    """It names every login, counts harmful blocks and what stands or passed; nothing that mattered is no message."""
    events, channel, at = Events(), JudgedChannel(), START
    logins, blocks, passed = set[str](), 0, 0
    silent: dict[str, float] = {}
    channel.pass_until(BACK - 1)
    for number, (later, name, agent_number) in enumerate(steps):
        at = min(at + later, BACK - 1801)
        agent = f"srv-{agent_number}"
        match name:
            case "login":
                logins.add(f"host-{number}.")
                event = events.login(at, f"host-{number}.")
            case "block":
                blocks += 1
                event = events.make("block_ineffective", at, agent, value=f"203.0.113.{number}")
            case "stale":
                silent.setdefault(agent, at)
                event = events.make("agent_stale", at, agent)
            case "online":
                since = silent.pop(agent, at)
                passed += at - since >= 600
                event = events.make("agent_online", at, agent)
            case _:
                event = events.make("threats_reported", at, count=5, taken=5)
        channel.take(event, at=max(channel.now, BACK) + pause)
    channel.pass_until(channel.now + 3600)
    told = [message for _, message in channel.told if message.change is not Change.DIGEST or "backlog" in message.id]
    flaps = sum("flapped" in text for text in channel.texts())
    matters = bool(logins or blocks or passed or silent or flaps)
    assert len(told) == matters
    text = "\n".join(channel.texts())
    assert all(host in text for host in logins)
    for number, words in ((blocks, "harm or failed"), (passed, "well again"), (len(silent), "blind in acme")):
        assert any(words in line and str(number) in line.split() for line in text.splitlines()) is bool(number)
