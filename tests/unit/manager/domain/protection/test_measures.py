"""Reported measures: which reports state one, and in which scope its address is."""

from typing import Any

import pytest

from manager.domain.protection.measures import ReportedMeasure, ScopedAddress, reported_measure
from schemas.model import utc
from schemas.threats import ResponseTaken, Threat, ThreatReport


def _measure(response: Any, site: str | None = None) -> ReportedMeasure | None:
    report = ThreatReport(
        id="01890a5d-ac96-774b-bcce-b302099a8057",
        agent_id="ag-0000000000000000",
        threat=Threat(type="brute_force", confidence=90, count=5, rule_id="sshd-brute-force"),
        response=response,
        timestamp=utc(1.0),
    )
    return reported_measure(report, agent_number=7, organization_id="acme", site=site, at=2.0)


@pytest.mark.parametrize(
    ("action", "outcome", "kind"),
    [
        ("block_ip", "taken", "block"),
        ("block_ip", "would_be_taken", "block"),
        ("throttle_ip", "taken", "throttle"),
        ("throttle_ip", "would_be_taken", "throttle"),
    ],
)
def test_a_block_that_is_or_would_be_taken_is_a_measure(action: str, outcome: str, kind: str) -> None:
    """Blocks and throttles with these outcomes are measures, with the guesses at the decision."""
    response = ResponseTaken(action=action, target="203.0.113.7", outcome=outcome, connections=2)
    subject = ScopedAddress("acme", "", "203.0.113.7")
    assert _measure(response) == ReportedMeasure(subject, 7, 2.0, "sshd-brute-force", kind, 5, outcome, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "target", "outcome"),
    [
        ("notify", "203.0.113.7", "would_be_taken"),
        ("block_ip", "203.0.113.7", "refused: it is a gateway"),
        ("block_ip", "203.0.113.7", "ineffective: it gets through"),
        ("block_ip", "203.0.113.7", "takeover"),
        ("block_ip", "203.0.113.7", None),
        ("block_ip", None, "taken"),
        ("block_ip", "everybody", "taken"),
        ("block_ip", "203.0.113.0/" + "9" * 999, "taken"),
        ("block_ip", "0.0.0.0/0", "taken"),
        ("block_ip", "2001:db8::/48", "taken"),
    ],
)
def test_other_responses_are_no_measure(action: str, target: str | None, outcome: str | None) -> None:
    """A notification, a refusal, another agent's outcome, and a target other than an address or a /64 do not count."""
    assert _measure(ResponseTaken(action=action, target=target, outcome=outcome)) is None


@pytest.mark.parametrize("response", [None, "block_ip"])
def test_a_response_that_is_only_a_word_is_no_measure(response: str | None) -> None:
    """The lifecycle page's shape does not say whether the measure was taken."""
    assert _measure(response) is None


@pytest.mark.parametrize(
    ("target", "site", "subject"),
    [
        ("203.0.113.7", "berlin", ScopedAddress("acme", "", "203.0.113.7")),
        ("::ffff:203.0.113.7", None, ScopedAddress("acme", "", "203.0.113.7")),
        ("10.0.0.5", "berlin", ScopedAddress("acme", "berlin", "10.0.0.5")),
        ("10.0.0.5", None, ScopedAddress("acme", "", "10.0.0.5")),
        ("2001:DB8::1/64", "berlin", ScopedAddress("acme", "", "2001:db8::/64")),
        ("fd00::/64", "berlin", ScopedAddress("acme", "berlin", "fd00::/64")),
    ],
)
def test_a_private_address_belongs_to_its_site(target: str, site: str | None, subject: ScopedAddress) -> None:
    """A public address means the same in the whole organization, a private one within its site."""
    measure = _measure(ResponseTaken(action="block_ip", target=target, outcome="taken"), site)
    assert measure is not None
    assert measure.subject == subject
