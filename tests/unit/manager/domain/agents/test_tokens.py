"""Enrollment rate of tokens with a rate, or without limits, against counting by hand."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.domain.agents.tokens import EnrollmentRate, Token
from manager.domain.instant import Instant

WALL = 1_800_000_000.0


def _at(monotonic: float) -> Instant:
    return Instant(WALL + monotonic, monotonic)


def _agent(number: int, token_id: str | None, registered_at: float) -> Agent:
    host = Host.of(f"h-{number}", "os", "x64", "1")
    credential = credential_of(number.to_bytes(32, "big"))
    return Agent(number, f"ag-{number}", "default", host, credential, token_id, Door.MQTT, registered_at)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1500)), max_size=60), st.integers(1, 5), st.booleans())
def test_no_hour_has_more_new_agents_than_the_limit(steps: list[tuple[str, float]], limit: int, own: bool) -> None:
    """A new agent is let in exactly if fewer than the limit came in the hour before; each token by itself.

    So the manager's limit for tokens without limits, and the rate of a token.
    """
    rate = EnrollmentRate(0 if own else limit)
    terms = {"rate": limit, "max_uses": 1000} if own else {}
    tokens = {name: Token(name, bytes(32), 0.0, **terms) for name in "ab"}
    enrolled: dict[str, list[float]] = {"a": [], "b": []}
    now = 0.0
    for name, pause in steps:
        now += pause
        recent = [at for at in enrolled[name] if now - at < 3600]
        wait = rate.wait(tokens[name], _at(now))
        assert (wait == 0) == (len(recent) < limit)
        if wait:
            assert wait == recent[-limit] + 3600 - now
        else:
            rate.record(tokens[name], _at(now))
            enrolled[name].append(now)


def test_tokens_with_limits_of_their_own_have_no_rate() -> None:
    """A number of uses or an expiry is the operator's own limit; a rate of 0 is none."""
    rate, none = EnrollmentRate(1), EnrollmentRate(0)
    limited = Token("a", bytes(32), 0.0, max_uses=1000)
    expiring = Token("b", bytes(32), 0.0, expires_at=WALL * 2)
    unlimited = Token("c", bytes(32), 0.0)
    for token in (limited, expiring, unlimited):
        rate.record(token, _at(0.0))
        none.record(token, _at(0.0))
    assert [rate.wait(token, _at(1.0)) for token in (limited, expiring, unlimited)] == [0, 0, 3599]
    assert none.wait(unlimited, _at(1.0)) == 0
    assert "try again in 60 min" in rate.reason(unlimited, 3599.0)


def test_a_restart_does_not_reset_the_rate() -> None:
    """The registered agents of the last hour count again, with their age."""
    rate = EnrollmentRate(2)
    agents = [
        _agent(1, "a", WALL - 100),
        _agent(2, "a", WALL - 3500),
        _agent(3, "a", WALL - 3700),
        _agent(4, None, WALL),
    ]
    token = Token("a", bytes(32), 0.0)
    rate.load(agents, {"a": token}, Instant(WALL, 50.0))
    assert rate.wait(token, Instant(WALL, 50.0)) == 100
