"""What a guard tells of its host."""

from collections import namedtuple
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from agent.host import LoadMeter, architecture, gateways, host_facts, local_zone, own_addresses
from schemas.identifiers import Hostname

IPV4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t00000A0A\t0102A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
NONE, DEFAULT = "0" * 32, "0" * 32
IPV6 = "".join(
    f"{destination} {length} {NONE} 00 {hop} 00000400 00000001 00000000 {flags} eth0\n"
    for destination, length, hop, flags in (
        (DEFAULT, "00", "20010db8000000000000000000000001", "00000003"),
        (DEFAULT, "00", "fe800000000000000000000000000001", "00000003"),
        ("20010db8000000000000000000000000", "40", NONE, "00000001"),
    )
)


def test_gateways_are_read_from_the_routing_tables(tmp_path: Path) -> None:
    """Each gateway once, IPv4 and IPv6, without link-local ones and routes that have none."""
    (tmp_path / "route").write_text(IPV4)
    (tmp_path / "ipv6_route").write_text(IPV6)
    assert gateways(tmp_path / "route", tmp_path / "ipv6_route") == ("192.168.2.1", "2001:db8::1")


def test_a_host_without_routing_tables_has_no_gateways(tmp_path: Path) -> None:
    """A missing table is no error."""
    assert gateways(tmp_path / "none", tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("kernel", "wire"),
    [("x86_64", "x64"), ("AMD64", "x64"), ("aarch64", "arm64"), ("riscv64", "riscv64"), ("", "unknown")],
)
def test_architectures_have_the_pages_names(kernel: str, wire: str) -> None:
    """x64 and arm64 for the common ones, the kernel's own name for others."""
    assert architecture(kernel) == wire


def test_this_host_can_be_described() -> None:
    """The facts of the machine that runs the test fit the contract."""
    facts = host_facts()
    TypeAdapter(Hostname).validate_python(facts.hostname)
    assert facts.os
    assert facts.version
    assert not {"127.0.0.1", "::1"} & set(own_addresses())
    assert 0 < LoadMeter()().memory <= 100


def test_a_first_look_tells_of_the_time_since_the_host_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later one of the time between the two; time without any is no error, nor is a counter that went back."""
    times = namedtuple("times", "user system idle iowait guest")  # noqa: PYI024 -- as psutil has it
    looks = iter([times(30, 10, 50, 10, 5), times(100, 30, 60, 10, 5), times(100, 30, 60, 10, 5), times(0, 0, 1, 0, 0)])
    monkeypatch.setattr("psutil.cpu_times", lambda: next(looks))
    load = LoadMeter()
    assert [load().cpu for _ in range(4)] == [40.0, 90.0, 0.0, 0.0]


def test_the_zone_of_logs_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """TZ decides, and a name that does not exist is no error."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert str(local_zone()) == "Europe/Berlin"
    monkeypatch.setenv("TZ", "Nowhere/At_All")
    assert local_zone() is not None
