"""The blocklist feed: its content, who may read it, and real nginx and nftables that take it."""

import getpass
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest

from manager.domain.response.manual_blocks import ManualHolder
from manager.engine.commands.block_requests import AddBlocks, NewBlock
from tests.integration.api.served import Served
from tests.support.attacks import ATTACKER, attack, trusted
from tests.support.network import EchoService, Network
from tests.support.ports import free_port
from tests.support.waiting import eventually

FEED = "/api/feeds/blocklist"


@pytest.fixture
def feed(served: Served, admin: httpx2.Client) -> Iterator[httpx2.Client]:
    """A client with a feed token as the password of basic authentication."""
    token = admin.post("/api/access", json={"name": "firewall", "role": "feed"}).json()["data"]["token"]
    with httpx2.Client(base_url=served.url, auth=("any", token), verify=False, timeout=60) as client:
        yield client


def block(admin: httpx2.Client, *values: str, **options: Any) -> None:
    """Block addresses by hand."""
    for value in values:
        answer = admin.post("/api/blocks", json={"value": value, **options})
        assert answer.status_code == 201, answer.text


def test_the_feed_has_what_blocklists_have_in_each_format(
    served: Served, admin: httpx2.Client, feed: httpx2.Client
) -> None:
    """By hand and by incident, sorted and disjoint; blocks of single agents are not in it."""
    with served.bench() as bench:
        agents = trusted(bench, "a", "b", "c")
        attack(bench, *agents)
        bench.elapsed += 1
        attack(bench, *agents[:2], sourceIp="203.0.113.1")
    block(admin, "198.51.100.128/25", "198.51.100.129", "2001:db8::/48")
    block(admin, "198.51.100.1", organization="default")
    block(admin, "198.51.100.2", agentId=agents[0].agent_id)
    wanted = ["198.51.100.1", "198.51.100.128/25", ATTACKER, "2001:db8::/48"]
    assert feed.get(FEED).text.splitlines() == wanted
    assert feed.get(f"{FEED}?format=nginx").text.splitlines() == [f"deny {each};" for each in wanted]
    records = feed.get(f"{FEED}?format=json").json()["data"]
    assert [each["value"] for each in records] == [
        "198.51.100.1", "198.51.100.128/25", "198.51.100.129", ATTACKER, "2001:db8::/48",
    ]  # fmt: skip
    assert records[0]["expiresAt"] == "2027-01-15T12:00:01.000Z"
    assert feed.get(f"{FEED}?format=xml").status_code == 400


def test_the_feed_has_what_documents_of_the_fleet_and_its_organizations_block(
    served: Served, admin: httpx2.Client, feed: httpx2.Client
) -> None:
    """Entries and rules, without an end if they have none; not what has ended, is too wide, special or allowlisted."""
    served.enroll("a", organization_id="acme")
    ended, later = {"value": "203.0.113.9", "expiresAt": "2020-01-01T00:00:00Z"}, "2030-01-01T00:00:00.000Z"
    special = ["127.0.0.1", "224.0.0.1", "198.18.0.0/15"]
    ips = [{"value": "203.0.113.0/29", "reason": "scans"}, "198.51.100.7", ended, *special]
    allowed = {"ips": ["198.51.100.7"]}
    rule = {"ruleId": "r", "type": "block_ip", "value": "203.0.113.20"}
    documents = {
        "global": {"blocklist": {"ips": ips}, "allowlist": allowed},
        "organizations/acme": {
            "blocklist": {"ips": [{"value": "203.0.113.16", "expiresAt": later}]},
            "rules": [rule],
        },
        "organizations/other": {"blocklist": {"ips": ["203.0.113.32"]}},
        "groups/web": {
            "selector": {"tagsAll": ["web"]},
            "priority": 1,
            "policy": {"blocklist": {"ips": ["203.0.113.40"]}},
        },
    }
    for scope, document in documents.items():
        assert admin.put(f"/api/policies/{scope}", json=document).status_code in {200, 201}, scope
    block(admin, "203.0.113.16")
    records = feed.get(f"{FEED}?format=json&org_id=acme").json()["data"]
    assert [(each["value"], each["expiresAt"]) for each in records] == [
        ("203.0.113.0/29", None), ("203.0.113.16", later), ("203.0.113.20", None),
    ]  # fmt: skip
    assert feed.get(FEED, params={"org_id": "other"}).text.splitlines() == [
        "203.0.113.0/29", "203.0.113.16", "203.0.113.32",
    ]  # fmt: skip
    for format_ in ("plain", "nginx", "nft"):
        assert "203.0.113.20" in feed.get(FEED, params={"format": format_}).text


def test_a_misspelled_organization_has_no_feed(served: Served, admin: httpx2.Client, feed: httpx2.Client) -> None:
    """404, not an empty list, by which a firewall would let everybody in; one without a block has an empty list."""
    served.enroll("srv-01", organization_id="acme")
    block(admin, "203.0.113.16", organization="acme")
    assert admin.put("/api/policies/organizations/quiet", json={"thresholds": {"autoRespond": 90}}).status_code == 200
    assert feed.get(f"{FEED}?org_id=acme").text.splitlines() == ["203.0.113.16"]
    assert feed.get(f"{FEED}?org_id=quiet").text == ""
    answer = feed.get(f"{FEED}?org_id=acne")
    assert (answer.status_code, answer.json()["error"]) == (404, "Organization acne not found")


def test_an_unchanged_feed_is_304_and_a_changed_one_is_not(admin: httpx2.Client, feed: httpx2.Client) -> None:
    """In each format, also after the block was replaced by the same for another duration."""
    block(admin, "198.51.100.1")
    for each in ("plain", "nft", "nginx", "json"):
        first = feed.get(FEED, params={"format": each})
        assert first.headers["Cache-Control"] == "private, no-cache"
        tag = first.headers["ETag"]
        for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = feed.get(FEED, params={"format": each}, headers={"If-None-Match": given})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert feed.get(FEED, params={"format": each}, headers={"If-None-Match": '"x"'}).status_code == 200
    tag = feed.get(FEED).headers["ETag"]
    block(admin, "198.51.100.2")
    changed = feed.get(FEED, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.text) == (200, "198.51.100.1\n198.51.100.2\n")


def test_what_is_never_blocked_and_allowlisted_is_not_in_the_feed(
    served: Served, admin: httpx2.Client, feed: httpx2.Client
) -> None:
    """Also what the never lists have got since, as part of a network; and what has ended."""
    block(admin, "198.51.100.0/25", "198.51.100.200", "203.0.113.1")
    block(admin, "203.0.113.2", seconds=5)
    with served.bench() as bench:
        bench.fleet.blocklists.never["default"] = ("198.51.100.7",)
        bench.fleet.blocklists.sequences["default"] = 1
        bench.elapsed += 10
    assert feed.get(FEED).text.splitlines() == ["198.51.100.200", "203.0.113.1"]
    admin.post("/api/allowlist", json={"value": "203.0.113.0/24", "organizationId": "default"})
    assert feed.get(FEED).text.splitlines() == ["198.51.100.200"]


def test_a_feed_token_opens_the_feed_alone(served: Served, admin: httpx2.Client, feed: httpx2.Client) -> None:
    """By bearer or basic authentication; basic opens no other route, and nobody else reads the feed."""
    password = feed.auth._auth_header.removeprefix("Basic ")  # type: ignore[union-attr]
    assert feed.get(FEED).status_code == 200
    assert feed.get("/api/blocks").status_code == 401
    for header in ("Basic", "Basic !!!", f"Basic {b64encode(b'any:wrong').decode()}", f"Bearer {password}", "Bearer x"):
        with httpx2.Client(
            base_url=served.url, headers={"Authorization": header}, verify=False, timeout=60
        ) as stranger:
            assert stranger.get(FEED).status_code == 401, header
    with served.client(served.enroll("a").keys.http_token) as agent:
        assert agent.get(FEED).status_code == 403
    assert admin.get(FEED).status_code == 200


def test_a_token_of_one_organization_reads_its_blocks_and_those_of_the_fleet(
    served: Served, admin: httpx2.Client
) -> None:
    """Another organization is not found, which a firewall cannot take for an empty feed."""
    block(admin, "198.51.100.1")
    block(admin, "198.51.100.2", organization="acme")
    block(admin, "198.51.100.3", organization="other")
    body = {"name": "acme", "role": "feed", "organizations": ["acme"]}
    token = admin.post("/api/access", json=body).json()["data"]["token"]
    with served.client(token) as own:
        assert own.get(FEED).text.splitlines() == ["198.51.100.1", "198.51.100.2"]
        assert own.get(f"{FEED}?org_id=acme").text.splitlines() == ["198.51.100.1", "198.51.100.2"]
        assert own.get(f"{FEED}?org_id=other").status_code == 404


def test_no_organization_takes_a_block_of_another_one_out_of_the_feed(
    admin: httpx2.Client, feed: httpx2.Client
) -> None:
    """Its allowlist holds in its own feed; what the global allowlist has is in none."""
    for name in ("acme", "other"):
        block(admin, f"203.0.113.{len(name)}", organization=name)
    block(admin, "198.51.100.1", "198.51.100.2")
    block(admin, "198.51.100.3", organization="other")
    for value in ("198.51.100.1", "198.51.100.3", "203.0.113.5"):
        assert admin.post("/api/allowlist", json={"value": value, "organizationId": "acme"}).status_code == 201
    assert admin.post("/api/allowlist", json={"value": "198.51.100.2"}).status_code == 201
    assert feed.get(FEED).text.splitlines() == ["198.51.100.1", "198.51.100.3", "203.0.113.4", "203.0.113.5"]
    assert feed.get(f"{FEED}?org_id=acme").text.splitlines() == ["203.0.113.4"]
    assert feed.get(f"{FEED}?org_id=other").text.splitlines() == ["198.51.100.1", "198.51.100.3", "203.0.113.5"]


@pytest.mark.nginx
@pytest.mark.namespaces
def test_ten_thousand_entries_are_served_whole(served: Served, feed: httpx2.Client, tmp_path: Path) -> None:
    """In each format, taken by nginx and nft, and 304 afterwards."""
    values = [str(ip_address("198.18.0.0") + 2 * number) for number in range(10_000)]
    with served.bench() as bench:
        for organization_id, part in (("acme", values[:9000]), ("other", values[9000:])):
            blocks = tuple(NewBlock(value, 3600.0, "list") for value in part)
            bench.ask(AddBlocks(ManualHolder("organization", organization_id), blocks, "alice"))
    assert feed.get(FEED).text.splitlines() == values
    texts = {}
    for each in ("plain", "nft", "nginx", "json"):
        answer = feed.get(FEED, params={"format": each})
        texts[each] = answer.text
        same = feed.get(FEED, params={"format": each}, headers={"If-None-Match": answer.headers["ETag"]})
        assert same.status_code == 304
    (tmp_path / "blocklist.conf").write_text(texts["nginx"])
    server = f"server {{ listen 127.0.0.1:1; include {tmp_path}/blocklist.conf; }}"
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; events {{}} http {{ {server} }}")
    command = ["nginx", "-t", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    subprocess.run(command, check=True)  # noqa: S603 -- the test's own words
    with Network() as network:
        firewall = network.host("192.0.2.1/24")
        firewall.run("nft", "-f", "-", input_=texts["nft"])
        for value in (values[0], values[-1]):
            firewall.run("nft", "get", "element", "inet", "panguard_feed", "blocked4", f"{{ {value} }}")


@pytest.mark.nginx
def test_nginx_denies_what_the_feed_has(admin: httpx2.Client, feed: httpx2.Client, tmp_path: Path) -> None:
    """The file is included in a server, reloaded after a change, and denies by the client's address."""
    port = free_port()
    included, log = tmp_path / "blocklist.conf", tmp_path / "error.log"
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"user {getpass.getuser()}; daemon off; pid {tmp_path}/nginx.pid; error_log {log}; events {{}}\n"
        f"http {{ access_log off; {' '.join(f'{name}_temp_path {tmp_path}/{name};' for name in _TEMPORARY)}\n"
        f"server {{ listen 127.0.0.1:{port}; set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;\n"
        f"location / {{ include {included}; }} }} }}\n"
    )

    def take() -> None:
        included.write_text(feed.get(f"{FEED}?format=nginx").raise_for_status().text)

    def status(address: str) -> int:
        answer = httpx2.get(
            f"http://127.0.0.1:{port}/x", headers={"X-Forwarded-For": address}, verify=False, timeout=60
        )
        return answer.status_code

    block(admin, "198.51.100.0/25", "2001:db8:66::/48")
    take()
    command = ["nginx", "-e", str(log), "-c", str(configuration), "-p", str(tmp_path)]
    with subprocess.Popen(command) as nginx:  # noqa: S603 -- the test's own words
        try:
            eventually(lambda: (tmp_path / "nginx.pid").exists() and _answers(port))
            assert {status(each) for each in ("198.51.100.9", "2001:db8:66::1")} == {403}
            assert {status(each) for each in ("198.51.100.200", "2001:db8:67::1")} == {404}
            assert admin.delete("/api/blocks?value=198.51.100.0/25").status_code == 200
            block(admin, "198.51.100.200")
            take()
            subprocess.run([*command, "-s", "reload"], check=True)  # noqa: S603 -- the same
            eventually(lambda: (status("198.51.100.9"), status("198.51.100.200")) == (404, 403))
        finally:
            nginx.terminate()


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/x", verify=False).status_code > 0
    except httpx2.TransportError:
        return False


@pytest.mark.namespaces
def test_nftables_drops_what_the_feed_has(admin: httpx2.Client, feed: httpx2.Client) -> None:
    """Real packets: the feed is a script that replaces the elements of two sets, each time it is read."""
    rule = "add chain inet panguard_feed input { type filter hook input priority -10; }\n" + "".join(
        f"add rule inet panguard_feed input {family} saddr @{name} drop\n"
        for family, name in (("ip", "blocked4"), ("ip6", "blocked6"))
    )
    with Network() as network:
        web = network.host("192.0.2.1/24", "2001:db8:1::1/64")
        attacker = network.host("192.0.2.66/24", "2001:db8:1::66/64")
        friend = network.host("192.0.2.7/24", "2001:db8:1::7/64")
        with EchoService(web, 8080):
            eventually(lambda: attacker.reaches("2001:db8:1::1", 8080) and attacker.reaches("192.0.2.1", 8080))
            block(admin, "192.0.2.64/26", "192.0.2.66", "2001:db8:1::66")
            web.run("nft", "-f", "-", input_=feed.get(f"{FEED}?format=nft").text + rule)
            for address in ("192.0.2.1", "2001:db8:1::1"):
                assert not attacker.reaches(address, 8080)
                assert friend.reaches(address, 8080)
            admin.delete("/api/blocks?value=192.0.2.0/24")
            web.run("nft", "-f", "-", input_=feed.get(f"{FEED}?format=nft").text)
            assert attacker.reaches("192.0.2.1", 8080)
            assert not attacker.reaches("2001:db8:1::1", 8080)
