"""The policy document: its digest, its one canonical form, its normal addresses, and what an admin really set."""

import hashlib
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from schemas.decoding import DecodeError, decode, validate
from schemas.model import WireModel
from schemas.policy import (
    SECTIONS,
    Policy,
    PolicyDocument,
    PolicySections,
    canonical,
    default_sections,
    digest_of,
)
from tests import strategies as wire
from tests.support.examples import examples

AMPLE = 1 << 20

sections = wire.messages(PolicySections, **wire.SECTIONS)
documents = st.fixed_dictionaries({}, optional=wire.SECTIONS).map(lambda members: PolicyDocument(**members))
networks = st.builds(
    lambda address, bits: f"{address}/{bits % (address.max_prefixlen + 1)}", st.ip_addresses(), st.integers(0, 1000)
)


def values(message: WireModel) -> dict[str, Any]:
    """Return a message as the JSON values that stand on the wire."""
    document: dict[str, Any] = json.loads(message.body())
    return document


def shuffled(document: Any, data: st.DataObject) -> Any:
    """Return the same JSON with the members of every object in another order."""
    if isinstance(document, dict):
        names = data.draw(st.permutations(list(document)))
        return {name: shuffled(document[name], data) for name in names}
    if isinstance(document, list):
        return [shuffled(element, data) for element in document]
    return document


def address(text: str) -> str:
    """Return what the blocklist makes of an address."""
    return str(validate(PolicyDocument, {"blocklist": {"ips": [text]}}).sections()["blocklist"]["ips"][0])


def test_the_sections_are_those_of_the_contract() -> None:
    """The document has the eight sections of the contract, in its order, in every model, and `mode` first."""
    expected = ["thresholds", "blocklist", "allowlist", "monitors", "alerting", "response", "detection", "rules"]
    assert list(SECTIONS) == expected
    assert list(PolicySections.model_fields) == expected
    assert list(PolicyDocument.model_fields) == ["mode", *expected]
    assert list(wire.SECTIONS) == expected
    assert list(default_sections()) == expected


@given(policy=sections, data=st.data())
def test_the_digest_does_not_depend_on_the_order_of_members(policy: PolicySections, data: st.DataObject) -> None:
    """Two writers of the same document, with members in any order, name it alike."""
    document = values(policy)
    assert digest_of(shuffled(document, data)) == digest_of(document)
    assert canonical(shuffled(document, data)) == canonical(document)


@given(policy=sections, rest=wire.json_objects)
def test_the_digest_is_of_the_sections_and_nothing_else(policy: PolicySections, rest: dict[str, Any]) -> None:
    """Version, time, scope, proofs and members of the future leave the digest alone; it is SHA-256 as written."""
    document = values(policy)
    head = {"version": 3, "digest": "x", "updatedAt": "now", "scope": "agent", "agentId": "a", "versionProof": "p"}
    assert digest_of({**rest, **head, **document}) == digest_of(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest_of(document) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", SECTIONS)
@settings(max_examples=examples(12))  # for each of the eight sections
@given(policy=sections, data=st.data())
def test_the_digest_changes_with_every_section(name: str, policy: PolicySections, data: st.DataObject) -> None:
    """A change in any section gives another name to the document, and so does leaving the section out."""
    document = values(policy)
    drawn = data.draw(wire.SECTIONS[name])
    other = [values(rule) for rule in drawn] if name == "rules" else values(drawn)
    assume(json.dumps(other) != json.dumps(document[name]))
    assume(canonical({"": other}) != canonical({"": document[name]}))
    assert digest_of({**document, name: other}) != digest_of(document)
    assert digest_of({key: value for key, value in document.items() if key != name}) != digest_of(document)


@given(document=wire.json_objects)
def test_the_canonical_form_says_the_same_and_is_its_own(document: dict[str, Any]) -> None:
    """Canonical JSON is the same document, has no white space or escapes it does not need, and is a fixed point."""
    text = canonical(document)
    assert json.loads(text) == document
    assert canonical(json.loads(text)) == text


def test_the_canonical_form_is_pinned() -> None:
    """Sorted keys, no white space, UTF-8: what every guard, in whatever language, must write to check a digest."""
    document = {"b": [1, 2.5, None, True], "a": {"z": "é\n", "y": "\u2028"}, "B": ""}
    expected = '{"B":"","a":{"y":"\u2028","z":"é\\n"},"b":[1,2.5,null,true]}'
    assert canonical(document) == expected.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_json_has_no_digest(number: float) -> None:
    """NaN and infinities get no name, rather than one that no other reader can check."""
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_of({"thresholds": {"autoRespond": number}})


@given(policy=wire.MESSAGES[Policy])
def test_a_guard_finds_the_digest_that_the_manager_found(policy: WireModel) -> None:
    """The digest of a policy's bytes is that of the policy read and written again: the wire changes no section."""
    document = json.loads(policy.body())
    again = json.loads(decode(Policy, policy.body(), AMPLE).body())
    assert digest_of(document) == digest_of(again)


@given(policy=sections)
def test_sections_read_again_keep_their_digest(policy: PolicySections) -> None:
    """Member names in the store equal those that the models write."""
    document = values(policy)
    assert digest_of(values(decode(PolicySections, canonical(document), AMPLE))) == digest_of(document)


def test_the_defaults_are_a_policy() -> None:
    """The documented defaults are the sections of a policy as they stand: nothing is added, lost or rewritten."""
    defaults = default_sections()
    read = decode(PolicySections, canonical(defaults), AMPLE)
    assert read == PolicySections()
    assert validate(PolicySections, defaults) == PolicySections()
    head = {
        "version": 1,
        "digest": digest_of(defaults),
        "updatedAt": "2026-01-01T00:00:00Z",
        "scope": "global",
        "agentId": "ag-0123456789abcdef",
        "versionProof": "AA",
    }
    policy = decode(Policy, json.dumps({**head, **defaults}).encode(), AMPLE)
    assert {name: values(policy)[name] for name in SECTIONS} == defaults
    assert digest_of(values(policy)) == digest_of(defaults)
    assert values(read) == defaults


@given(members=st.fixed_dictionaries({}, optional=wire.SECTIONS))
def test_a_document_has_the_sections_that_were_set(members: dict[str, Any]) -> None:
    """A document says no more than its admin did: sections that were not set are not written."""
    written = PolicyDocument(**members).sections()
    assert set(written) == set(members)
    assert validate(PolicyDocument, written).sections() == written


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"thresholds": {}},
        {"thresholds": {"autoRespond": 80.0}},
        {"thresholds": {"autoRespond": 85.0}},
        {"alerting": {"minimumSeverity": "low"}},
        {"monitors": {"advanced": {"a": None, "b": {"c": [None]}}}},
        {"response": {"escalation": {"repeatThreshold": 3}}},
        {"blocklist": {"ips": [{"value": "192.0.2.1", "reason": "scan", "expiresAt": "2026-01-01T00:00:00Z"}]}},
        {"rules": []},
        {"rules": [{"type": "block_ip", "value": "192.0.2.1"}]},
    ],
    ids=str,
)
def test_only_the_members_that_were_set_are_written(document: dict[str, Any]) -> None:
    """A member left out stays open to the scopes below, even where what was set is its default."""
    assert validate(PolicyDocument, document).sections() == document
    assert decode(PolicyDocument, json.dumps(document).encode(), AMPLE).sections() == document


def test_null_sets_nothing() -> None:
    """A section or member that an admin's tool writes as null is one that was not set."""
    document = {"thresholds": None, "rules": [{"type": "custom", "reason": None}]}
    assert validate(PolicyDocument, document).sections() == {"rules": [{"type": "custom"}]}


@given(text=st.ip_addresses().map(str) | networks)
def test_an_address_has_one_form(text: str) -> None:
    """Normalising again changes nothing, and no host bit is left behind a prefix."""
    normal = address(text)
    assert address(normal) == normal
    assert address(f"  {text.upper()}\n") == normal
    network = ipaddress.ip_network(normal)  # strict: raises at host bits
    assert not normal.endswith(f"/{network.max_prefixlen}")


@given(four=st.ip_addresses(v=4), bits=st.integers(0, 32))
def test_an_ipv4_address_in_ipv6_is_the_ipv4_address(four: ipaddress.IPv4Address, bits: int) -> None:
    """`::ffff:192.0.2.1` is the same host as 192.0.2.1, and a prefix in it is shorter by 96."""
    assert address(f"::ffff:{four}") == address(f"{four}/32") == str(four)
    assert address(f"::FFFF:{four}/{96 + bits}") == address(f"{four}/{bits}")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("192.0.2.77/255.255.255.0", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_the_normal_form_of_an_address(text: str, normal: str) -> None:
    """The forms in which a host or network is known to arrive all become one."""
    assert address(text) == normal


NO_ADDRESSES = [
    "", " ", "localhost", "192.0.2", "192.0.2.256", "192.0.2.1/33", "192.0.2.1/-1", "192.0.2.01", "3221225985",
    "192.0.2.1 192.0.2.2", "192.0.2.1\0", "192.0.2.1;", "\u0661.2.3.4", "1" * 65, "2001:db8::1/129", ":::",
    "fe80::1%eth0", "fe80::1%a;b", "fe80::1%a\nb", "fe80::%x/64", "::ffff:192.0.2.1%x",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_ADDRESSES, ids=ascii)
@pytest.mark.parametrize("section", ["blocklist", "allowlist"])
def test_what_is_no_address_is_refused_naming_the_field(section: str, text: str) -> None:
    """Names, half addresses and scoped ones, whose scope is any text, reach no packet filter."""
    for door in (text, {"value": text})[: 2 if section == "blocklist" else 1]:
        with pytest.raises(DecodeError, match=rf"^{section}\.ips\.0\b"):
            validate(PolicyDocument, {section: {"ips": [door]}})


def test_a_refused_address_is_not_repeated() -> None:
    """A complaint of an address names the field in wire words, and not what stood there."""
    with pytest.raises(DecodeError) as caught:
        validate(PolicyDocument, {"blocklist": {"ips": ["my-password"]}})
    assert "my-password" not in str(caught.value)
    assert "_address" not in str(caught.value)


@given(name=wire.domains, wild=st.booleans())
@example(name="example.com", wild=False)
@example(name="xn--bcher-kva.example", wild=True)
@example(name="_dmarc.example.com", wild=False)
def test_a_domain_is_kept_in_lower_case(name: str, wild: bool) -> None:
    """Domains do not mind case: however an admin writes one, it is stored once."""
    text = f"*.{name}" if wild else name
    for written in (text, text.upper(), text.title()):
        for entry in (written, {"value": written}):
            (kept,) = validate(PolicyDocument, {"blocklist": {"domains": [entry]}}).sections()["blocklist"]["domains"]
            assert (kept if isinstance(kept, str) else kept["value"]) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "a b", "a..b", ".a", "-a.example", "a-.example", "*", "*.", "a.*.b", "exa/mple", "a\n", "a\0",
        "é.example", "\u212a.example", "http://example.com", "a" * 64 + ".example", "a." * 127 + "aa",
    ],
    ids=lambda text: ascii(text)[:24],
)  # fmt: skip
def test_what_is_no_domain_is_refused_naming_the_field(text: str) -> None:
    """Empty labels, labels over 63 characters, and whatever is no host name are refused (RFC 1035)."""
    with pytest.raises(DecodeError, match=r"^blocklist\.domains\.0\b"):
        validate(PolicyDocument, {"blocklist": {"domains": [text]}})


@given(digest=wire.file_hashes)
def test_a_hash_is_kept_in_lower_case(digest: str) -> None:
    """MD5, SHA-1 and SHA-256 are stored in lower case, however they are written."""
    for section in ("blocklist", "allowlist"):
        document = {section: {"fileHashes": [digest.upper()]}}
        assert validate(PolicyDocument, document).sections() == {section: {"fileHashes": [digest]}}


@pytest.mark.parametrize(
    "text",
    ["", "0" * 31, "0" * 33, "0" * 41, "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "\u0660" * 64, " " + "0" * 64],
    ids=lambda text: f"{ascii(text)[:10]} of {len(text)}",
)
@pytest.mark.parametrize("section", ["blocklist", "allowlist"])
def test_what_is_no_hash_is_refused_naming_the_field(section: str, text: str) -> None:
    """A hash has 32, 40 or 64 hexadecimal digits and nothing else."""
    with pytest.raises(DecodeError, match=rf"^{section}\.fileHashes\.0\b"):
        validate(PolicyDocument, {section: {"fileHashes": [text]}})
