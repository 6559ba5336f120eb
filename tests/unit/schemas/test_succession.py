"""Which links a guard follows, and whose messages it takes, case by case."""

import pytest

from schemas.keys import ManagerKeyring
from schemas.model import utc
from schemas.succession import PERIOD, Succession, TrustedKeys, signed_link

NOW = 1_800_000_000.0
OLD, NEW, NEXT, THIEF = (ManagerKeyring(bytes([number]) * 32) for number in range(4))
LINK = signed_link(OLD.sign_key, NEW.sign_key, number=1, now=NOW)
TRUSTED = TrustedKeys(OLD.sign_public)
FORGED = signed_link(OLD.sign_key, THIEF.sign_key, number=1, now=NOW)


@pytest.mark.parametrize(
    "link",
    [
        LINK.model_copy(update={"successor": THIEF.sign_public}),
        LINK.model_copy(update={"successor": THIEF.sign_public, "successor_signature": FORGED.successor_signature}),
        LINK.model_copy(update={"predecessor_signature": LINK.successor_signature}),
        LINK.model_copy(update={"successor_signature": LINK.predecessor_signature}),
        LINK.model_copy(update={"number": 2}),
        LINK.model_copy(update={"compromised": True}),
        LINK.model_copy(update={"until": utc(NOW + PERIOD - 1)}),
        LINK.model_copy(update={"issued_at": utc(NOW + 1)}),
        LINK.model_copy(update={"successor": "A" * 42 + "_"}),
        signed_link(OLD.sign_key, NEW.sign_key, number=1, now=NOW, period=PERIOD + 1),
        signed_link(OLD.sign_key, NEW.sign_key, number=1, now=NOW - PERIOD),
        signed_link(OLD.sign_key, OLD.sign_key, number=1, now=NOW),
        signed_link(THIEF.sign_key, NEW.sign_key, number=1, now=NOW),
        signed_link(NEW.sign_key, NEXT.sign_key, number=1, now=NOW),
    ],
)
def test_a_link_that_is_not_whole_is_not_followed(link: Succession) -> None:
    """Unchained, altered, too long, ended, or signed by one of its keys alone."""
    assert TRUSTED.followed([link], NOW) == TRUSTED


def test_a_link_is_followed_until_its_end() -> None:
    """Up to the last moment; from then on nothing leads to the new key."""
    assert TRUSTED.followed([LINK], NOW + PERIOD - 1).current == NEW.sign_public
    assert TRUSTED.followed([LINK], NOW + PERIOD) == TRUSTED
    assert TRUSTED.refusal([LINK], NOW + PERIOD) == "succession_ended"
    assert (
        TRUSTED.refusal([signed_link(THIEF.sign_key, NEW.sign_key, number=1, now=NOW)], NOW) == "succession_unchained"
    )
    assert TRUSTED.followed([LINK], NOW).refusal([LINK], NOW) is None
    assert TRUSTED.refusal([], NOW) is None


def test_links_are_followed_in_the_order_of_their_numbers() -> None:
    """Whatever the order in the message; a number is used once."""
    second = signed_link(NEW.sign_key, NEXT.sign_key, number=2, now=NOW)
    trusted = TRUSTED.followed([second, LINK], NOW)
    assert [link.number for link in trusted.links] == [1, 2]
    again = signed_link(NEXT.sign_key, THIEF.sign_key, number=2, now=NOW)
    assert trusted.followed([again], NOW) == trusted
    assert trusted.accepted(NOW) == (NEXT.sign_public, OLD.sign_public, NEW.sign_public)


def test_an_end_that_was_seen_stays() -> None:
    """A clock that is set back does not make the former key count again."""
    trusted = TRUSTED.followed([LINK], NOW)
    assert trusted.accepted(NOW) == (NEW.sign_public, OLD.sign_public)
    seen = trusted.at(NOW + PERIOD)
    assert seen.accepted(NOW) == (NEW.sign_public,)
    assert seen.at(NOW) is seen


def test_a_compromised_key_does_not_count_beside_its_successor() -> None:
    """From the moment in which the link is known."""
    link = signed_link(OLD.sign_key, NEW.sign_key, number=1, now=NOW, compromised=True)
    assert TRUSTED.followed([link], NOW).accepted(NOW) == (NEW.sign_public,)


def test_a_rollback_makes_the_former_key_count_as_before() -> None:
    """The key of the rotation counts beside it for 30 days."""
    back = signed_link(NEW.sign_key, OLD.sign_key, number=2, now=NOW)
    trusted = TRUSTED.followed([LINK, back], NOW)
    assert trusted.accepted(NOW) == (OLD.sign_public, NEW.sign_public)
    assert trusted.accepted(NOW + PERIOD) == (OLD.sign_public,)
