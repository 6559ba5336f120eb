"""The fence follows a rotation of the manager's key by itself, keeps it in root's state, and refuses all else."""

import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fence.successions import to_base64url
from schemas.succession import PERIOD, Succession, signed_link
from tests.unit.fence.conftest import KEY, NEXT_KEY, SENT_AT, Bench, raw

ADDRESS, OTHER = "198.51.100.7", "198.51.100.8"
THIEF = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
THIRD = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
LINK = signed_link(KEY, NEXT_KEY, number=1, now=SENT_AT)


def _wire(*links: Succession) -> list[dict[str, Any]]:
    return [link.model_dump(mode="json", by_alias=True) for link in links]


def test_a_rotation_is_followed_and_outlives_a_restart(bench: Bench) -> None:
    """The guard passes it on; from then on both keys count, and the numbers go on."""
    assert bench.take(5, ADDRESS)["ok"]
    assert not bench.take(6, OTHER, key=NEXT_KEY)["ok"]
    answer = bench.as_guard("keys", successions=_wire(LINK))
    assert (answer["ok"], answer["outcome"]) == (True, "followed")
    assert answer["signKeys"] == [to_base64url(raw(NEXT_KEY))]
    bench.restart()
    assert bench.take(6, OTHER, key=NEXT_KEY)["blocklistSequence"] == 6
    assert bench.take(7, ADDRESS, key=KEY)["blocklistSequence"] == 7
    assert "older than 7" in bench.take(5, OTHER, key=NEXT_KEY)["reason"]
    assert bench.as_guard("keys", successions=_wire(LINK))["outcome"] == "known"


def test_the_former_key_is_useless_after_30_days(bench: Bench) -> None:
    """Also after a restart, with the clock set back, or with the key still in fence.conf."""
    bench.as_guard("keys", successions=_wire(LINK))
    bench.wall += PERIOD - 1
    assert bench.take(1, ADDRESS, key=KEY)["ok"]
    bench.wall += 1
    assert "not the manager's" in bench.take(2, ADDRESS, key=KEY)["reason"]
    bench.wall -= 40 * 86_400
    assert "not the manager's" in bench.take(2, ADDRESS, key=KEY)["reason"]
    bench.restart()
    assert "not the manager's" in bench.take(2, ADDRESS, key=KEY)["reason"]
    assert bench.take(2, ADDRESS, key=NEXT_KEY)["ok"]


def test_a_key_that_was_given_up_is_refused_at_once(bench: Bench) -> None:
    """There is no time in which a thief has it beside the manager."""
    bench.as_guard("keys", successions=_wire(signed_link(KEY, NEXT_KEY, number=1, now=SENT_AT, compromised=True)))
    assert "not the manager's" in bench.take(1, ADDRESS, key=KEY)["reason"]
    assert bench.take(1, ADDRESS, key=NEXT_KEY)["ok"]


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        (_wire(signed_link(THIEF, NEXT_KEY, number=1, now=SENT_AT)), "does not continue the key"),
        (_wire(signed_link(NEXT_KEY, THIRD, number=1, now=SENT_AT)), "does not continue the key"),
        (_wire(LINK.model_copy(update={"successor": to_base64url(raw(THIEF))})), "not signed by both"),
        (_wire(LINK.model_copy(update={"compromised": True})), "not signed by both"),
        (_wire(LINK.model_copy(update={"number": 2})), "not signed by both"),
        (_wire(signed_link(KEY, NEXT_KEY, number=1, now=SENT_AT - PERIOD)), "has ended"),
        (_wire(signed_link(KEY, NEXT_KEY, number=1, now=SENT_AT, period=PERIOD + 1)), "do not fit"),
        (_wire(signed_link(KEY, KEY, number=1, now=SENT_AT)), "do not fit"),
        ([{}], "cannot be read"),
        (["x"], "cannot be read"),
        ([{**_wire(LINK)[0], "issuedAt": "2026-01-01"}], "cannot be read"),
        ([{**_wire(LINK)[0], "number": True}], "do not fit"),
        ([{**_wire(LINK)[0], "predecessorSignature": "A"}], "cannot be read"),
        ({}, "takes a list"),
        (_wire(*[LINK] * 65), "takes a list"),
    ],
)
def test_what_does_not_continue_the_chain_is_refused(bench: Bench, links: Any, reason: str) -> None:
    """An unchained, altered, ended or malformed link changes nothing, from the guard or from root."""
    for ask in (bench.as_guard, bench.ask):
        answer = ask("keys", successions=links)
        assert (answer["ok"], answer["outcome"]) == (False, "refused")
        assert reason in answer["reason"]
    bench.restart()
    assert bench.ask("status")["signKeys"] == [to_base64url(raw(KEY))]
    assert not bench.take(1, ADDRESS, key=NEXT_KEY)["ok"]


def test_a_second_rotation_and_a_rollback_are_followed_in_one_message(bench: Bench) -> None:
    """A host that was away takes all links at once; a replayed first one does not lead back."""
    second = signed_link(NEXT_KEY, THIRD, number=2, now=SENT_AT)
    back = signed_link(THIRD, NEXT_KEY, number=3, now=SENT_AT)
    assert bench.as_guard("keys", successions=_wire(back, LINK, second))["outcome"] == "followed"
    assert bench.ask("status")["signKeys"] == [to_base64url(raw(NEXT_KEY))]
    assert bench.as_guard("keys", successions=_wire(LINK, second))["outcome"] == "known"
    for number, key in enumerate((KEY, NEXT_KEY, THIRD), start=1):
        assert bench.take(number, ADDRESS, key=key)["ok"]


@pytest.mark.parametrize("rotations_before", [1, 2, 3])
def test_a_key_from_the_middle_of_the_guards_chain_is_continued(bench: Bench, rotations_before: int) -> None:
    """A fence installed after a rotation passes over the links before its key, and follows those from it on."""
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([20 + number]) * 32) for number in range(5)]
    links = [
        signed_link(*pair, number=number, now=SENT_AT) for number, pair in enumerate(itertools.pairwise(keys), start=1)
    ]
    bench.restart(sign_keys=(raw(keys[rotations_before]),))
    assert bench.as_guard("keys", successions=_wire(*links[:rotations_before]))["outcome"] == "refused"
    answer = bench.as_guard("keys", successions=_wire(*links[:-1]))
    if rotations_before < 3:
        assert (answer["outcome"], answer["signKeys"]) == ("followed", [to_base64url(raw(keys[3]))])
        assert bench.as_guard("keys", successions=_wire(*links[:-1]))["outcome"] == "known"
    assert bench.as_guard("keys", successions=_wire(*links))["signKeys"] == [to_base64url(raw(keys[4]))]
    for number, key in enumerate(keys[rotations_before:], start=1):
        assert bench.take(number, ADDRESS, key=key)["ok"]
    for key in keys[:rotations_before]:
        assert "not the manager's" in bench.take(9, ADDRESS, key=key)["reason"]


def test_a_key_that_a_rollback_restored_is_continued_after_its_first_link_has_ended(bench: Bench) -> None:
    """The chain passes the key twice; only the second time is still followed."""
    old = SENT_AT - PERIOD
    there, back = signed_link(KEY, NEXT_KEY, number=1, now=old), signed_link(NEXT_KEY, KEY, number=2, now=old)
    on = signed_link(KEY, THIRD, number=3, now=SENT_AT)
    assert "has ended" in bench.as_guard("keys", successions=_wire(there, back))["reason"]
    assert bench.as_guard("keys", successions=_wire(there, back, on))["signKeys"] == [to_base64url(raw(THIRD))]
    assert not bench.take(1, ADDRESS, key=NEXT_KEY)["ok"]


def test_a_link_behind_a_gap_is_not_followed(bench: Bench) -> None:
    """What continues the chain is followed; a link whose predecessor it does not reach is not, wherever it stands."""
    beyond = signed_link(THIRD, THIEF, number=2, now=SENT_AT)
    assert bench.as_guard("keys", successions=_wire(LINK, beyond))["signKeys"] == [to_base64url(raw(NEXT_KEY))]
    assert "does not continue" in bench.as_guard("keys", successions=_wire(LINK, beyond))["reason"]
    for key in (THIRD, THIEF):
        assert not bench.take(1, ADDRESS, key=key)["ok"]


def test_a_thief_with_the_former_key_leads_no_host_that_has_gone_on(bench: Bench) -> None:
    """Its own successor begins at a key that is not the newest, whatever its number."""
    bench.as_guard("keys", successions=_wire(LINK))
    forged = signed_link(KEY, THIEF, number=2**40, now=SENT_AT)
    assert "does not continue" in bench.as_guard("keys", successions=_wire(forged))["reason"]
    assert not bench.take(1, ADDRESS, key=THIEF)["ok"]


def test_the_new_key_in_the_configuration_goes_on_with_the_numbers(bench: Bench) -> None:
    """After `guard install` with a token of today, the old key is refused, and nothing older is taken."""
    assert bench.take(5, ADDRESS)["ok"]
    bench.as_guard("keys", successions=_wire(LINK))
    bench.restart(sign_keys=(raw(NEXT_KEY),))
    assert bench.ask("check")["blocklistSequence"] == 5
    assert "not the manager's" in bench.take(6, OTHER, key=KEY)["reason"]
    assert "older than 5" in bench.take(4, OTHER, key=NEXT_KEY)["reason"]
    assert bench.take(6, OTHER, key=NEXT_KEY)["ok"]
    bench.restart(sign_keys=(raw(THIRD),))
    assert bench.ask("check")["blocklistSequence"] == 0
    assert not bench.take(7, OTHER, key=NEXT_KEY)["ok"]
