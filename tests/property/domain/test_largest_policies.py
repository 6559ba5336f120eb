"""The size check of a document refuses what could exceed the limit anywhere, against a look at every place."""

from itertools import product
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from manager.domain.policies.fleet_policies import GLOBAL, Policies, Scope
from manager.domain.policies.groups import Placement
from manager.domain.policies.layers import encoded_size
from manager.domain.policies.preview import largest

ORGANIZATIONS = ("acme", "other")
SITES = ("bonn", "rome")
TAGS = frozenset({"web", "db"})

policies = st.fixed_dictionaries(
    {},
    optional={
        "blocklist": st.lists(st.integers(1, 60), max_size=12, unique=True).map(
            lambda hosts: {"ips": [f"198.51.100.{host}" for host in hosts]}
        ),
        "allowlist": st.sampled_from([{"ips": ["198.51.100.0/27"]}, {"ips": ["198.51.100.7"]}]),
        "detection": st.integers(0, 300).map(lambda size: {"yara": ["x" * size]}),
        "response": st.just({"actions": ["block_ip"]}),
    },
)
selectors = st.fixed_dictionaries(
    {},
    optional={
        "tagsAll": st.sampled_from([["web"], ["web", "db"]]),
        "tagsAny": st.just(["web", "db"]),
        "sites": st.lists(st.sampled_from(SITES), min_size=1, max_size=2, unique=True),
    },
)
groups = st.builds(
    lambda selector, policy, organization: {
        "selector": selector,
        "policy": policy,
        **({} if organization is None else {"organization": organization}),
    },
    selectors,
    policies,
    st.sampled_from([None, *ORGANIZATIONS]),
)
changes = st.one_of(
    st.tuples(st.just(GLOBAL), st.one_of(st.none(), policies)),
    st.tuples(st.sampled_from([Scope("organization", name) for name in ORGANIZATIONS]), st.one_of(st.none(), policies)),
    st.tuples(st.sampled_from([Scope("group", f"g{number}") for number in range(4)]), st.one_of(st.none(), groups)),
)


def sizes(policies: Policies) -> list[int]:
    """Return the sizes of the policies of agents with all tags, at each site of each organization."""
    places = product(("", *ORGANIZATIONS), (None, *SITES))
    return [encoded_size(policies.resolve("", Placement(*place, TAGS)).sections) for place in places]


def _numbered(scope: Scope, document: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a group's document with a priority of its own."""
    if document is None or scope.kind != "group":
        return document
    return {**document, "priority": int(scope.target[1:])}


@given(st.lists(changes, max_size=6), changes, st.integers(0, 400))
def test_a_document_is_too_large_where_a_policy_somewhere_is(
    before: list[tuple[Scope, Any]], change: tuple[Scope, Any], room: int
) -> None:
    """Whatever documents fitted before it: no place is overlooked, and none is said to be too large that is not."""
    fleet = Policies()
    for scope, document in before:
        fleet.set(scope, _numbered(scope, document), 0.0, "test")
    limit = max(sizes(fleet)) + room
    scope, document = change[0], _numbered(*change)
    found = [encoded_size(each.sections) for each in largest(fleet, scope, document, limit)]
    assume(document is not None or fleet.document(scope) is not None)
    fleet.set(scope, document, 0.0, "test")
    assert (max(found, default=0) > limit) is (max(sizes(fleet)) > limit)


@given(st.lists(changes, max_size=6))
def test_documents_together_are_no_smaller_than_a_policy_of_them(documents: list[tuple[Scope, Any]]) -> None:
    """So that a policy need not be resolved where they are small enough together."""
    fleet = Policies()
    for scope, document in documents:
        fleet.set(scope, _numbered(scope, document), 0.0, "test")
    assert max(sizes(fleet)) <= fleet.size_of(fleet.documents)
