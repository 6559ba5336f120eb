"""Mutes against an oracle that reads all mutes of the story at each event."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.judged import START, Events, JudgedChannel

SCOPES = st.fixed_dictionaries(
    {},
    optional={
        "site": st.sampled_from(["here", "there"]),
        "agentId": st.sampled_from(["a", "b"]),
        "topic": st.sampled_from(["got_in", "we_hurt"]),
    },
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([60.0, 600.0, 3600.0]),
        st.sampled_from(["mute", "unmute", "login", "block", "login", "block"]),
        st.fixed_dictionaries(
            {
                "organization": st.sampled_from(["acme", "zeta"]),
                "site": st.sampled_from(["here", "there"]),
                "agentId": st.sampled_from(["a", "b"]),
            }
        ),
        SCOPES,
        st.sampled_from([30.0, 600.0, 7200.0]),
    ),
    max_size=25,
)
TOPICS = {"login": "got_in", "block": "we_hurt"}


def covers(mute: dict[str, str], topic: str, place: dict[str, str]) -> bool:
    """Return whether a mute is about an event; without a topic it is not about logins."""
    if "topic" not in mute and topic == "got_in":
        return False
    return all({**place, "topic": topic}[key] == value for key, value in mute.items())


@given(STEPS)
def test_an_event_is_muted_if_and_only_if_a_mute_covers_it(steps: list[tuple[Any, ...]]) -> None:
    """A mute holds for its scope, from its event until its end or until it is taken back; what it mutes is counted."""
    events, channel, at = Events(), JudgedChannel(), START
    mutes: dict[tuple[tuple[str, str], ...], float] = {}
    muted = 0
    for pause, name, place, scope, lasting in steps:
        at += pause
        if name in TOPICS:
            muted += any(until > at and covers(dict(mute), TOPICS[name], place) for mute, until in mutes.items())
            members = {"organization_id": place["organization"], "site": place["site"], "value": "203.0.113.9"}
            login = name == "login"
            make = (
                events.login(at, place["agentId"], **members)
                if login
                else events.make("block_ineffective", at, place["agentId"], **members)
            )
            channel.take(make)
            continue
        own = tuple(sorted({"organization": place["organization"], **scope}.items()))
        mutes.pop(own, None)
        if name == "mute":
            mutes[own] = at + lasting
        data = {**scope, "until": at + lasting, "organization_id": place["organization"]}
        channel.take(events.make("notifications_muted" if name == "mute" else "notifications_unmuted", at, **data))
    channel.pass_until(at + 2 * 86_400)
    assert counted_in_digests(channel) == muted


def counted_in_digests(channel: JudgedChannel) -> int:
    """Return the number of muted events in all digests."""
    lines = [line for text in channel.texts() if text.startswith("Digest") for line in text.splitlines()]
    return sum(int(line.split()[0]) for line in lines if line.endswith("of muted groups"))
