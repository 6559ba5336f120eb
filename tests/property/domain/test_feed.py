"""The feed against a naive one that looks at each address."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.response.feed import FeedFormat, FeedPart, feed_entries, merged_entries, render

NOW = 1_800_000_000.0
PREFIXES = {"198.51.100.0/28": (28, 32), "2001:db8::/124": (124, 128)}


@st.composite
def networks(draw: st.DrawFn) -> str:
    """A network among sixteen addresses of either version."""
    base = ip_network(draw(st.sampled_from(sorted(PREFIXES))))
    shortest, longest = PREFIXES[str(base)]
    address = int(base.network_address) + draw(st.integers(0, 15))
    network = ip_network((address, draw(st.integers(shortest, longest))), strict=False)
    return str(network.network_address if network.num_addresses == 1 else network)


def covered(lines: list[str]) -> list[str]:
    """The addresses of networks, each as often as it is covered."""
    return sorted(str(address) for line in lines for address in ip_network(line))


@given(
    blocks=st.dictionaries(networks(), st.sampled_from([NOW - 1, NOW, NOW + 0.5, NOW + 60])),
    excluded=st.lists(networks(), max_size=3),
)
def test_the_feed_covers_each_live_block_that_nothing_excludes(blocks: dict[str, float], excluded: list[str]) -> None:
    """Each address once, no address that is in no such block, and the same networks in every format."""
    kept = [
        text
        for text, end in blocks.items()
        if end > NOW and not any(set(ip_network(text)) & set(ip_network(other)) for other in excluded)
    ]
    entries = feed_entries(blocks, excluded, NOW)
    assert sorted(str(entry.network) for entry in entries) == sorted(str(ip_network(text)) for text in kept)
    plain = render(entries, FeedFormat.PLAIN).splitlines()
    assert covered(plain) == sorted({str(address) for text in kept for address in ip_network(text)})
    assert [
        line.removeprefix("deny ").removesuffix(";") for line in render(entries, FeedFormat.NGINX).splitlines()
    ] == plain
    elements = [line.rstrip(",") for line in render(entries, FeedFormat.NFT).splitlines() if line[0].isdigit()]
    assert elements == plain
    versions = [ip_address(line.partition("/")[0]).version for line in plain]
    assert versions == sorted(versions)


_BLOCKS = st.dictionaries(networks(), st.sampled_from([NOW - 1, NOW, NOW + 0.5, NOW + 60]), max_size=4)


@given(shared=_BLOCKS, parts=st.lists(st.tuples(_BLOCKS, st.lists(networks(), max_size=2)), max_size=3))
def test_a_merged_feed_is_the_union_of_each_organizations_own(
    shared: dict[str, float], parts: list[tuple[dict[str, float], list[str]]]
) -> None:
    """A block that one organization excludes is in it if another one has it; of two ends the later counts."""
    wanted: dict[str, float] = {}
    for own, excluded in parts:
        for text in {*shared, *own}:
            end = max(shared.get(text, 0.0), own.get(text, 0.0))
            if end > NOW and not any(set(ip_network(text)) & set(ip_network(other)) for other in excluded):
                wanted[text] = max(end, wanted.get(text, 0.0))
    entries = merged_entries(shared, [FeedPart(own, tuple(excluded)) for own, excluded in parts], NOW)
    assert [(str(entry.network), entry.expires_at) for entry in entries] == [
        (str(ip_network(text)), end)
        for text, end in sorted(
            wanted.items(), key=lambda item: (ip_network(item[0]).version, ip_network(item[0]), item[0])
        )
    ]
