"""The console on a fleet under attack: a simulated fleet beside two hosts whose guards block in their kernels."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from schemas.keys import EnrollmentToken
from tests.integration.api.console_steps import click, go, page_text, second_step, sign_in
from tests.support.browser import Browser
from tests.support.fence_process import FenceProcess
from tests.support.network import EchoService, Network, NetworkHost
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/integration/api/test_console.py"),
    pytest.mark.chromium,
    pytest.mark.namespaces,
    pytest.mark.timeout(600),
]

ATTACKER, SECOND, BYSTANDER = "203.0.113.66", "203.0.113.67", "203.0.113.68"
GATEWAY = "203.0.113.254"
PAGES = ("now", "agents", "incidents", "threats", "blocks", "policies", "policies/groups", "policies/drift",
         "notifications", "access", "audit")  # fmt: skip
_READY = "return !document.querySelector('main[aria-busy]') && !document.querySelector('main .error')"
_FOLLOW = "[...document.querySelectorAll('main a')].find((each) => each.textContent.includes(arguments[0])).click()"


class AttackedFleet:
    """A manager, two guarded hosts, the host that attacks them, and a simulated fleet that reports threats.

    Args:
        home: for everything that they write.
        stack: takes them away.
    """

    def __init__(self, home: Path, stack: ExitStack) -> None:
        quick = {"PANGUARD_HEARTBEAT_INTERVAL": "0.5", "PANGUARD_RATE_LIMIT": "0"}
        self.manager = stack.enter_context(ManagerProcess(home, environment=quick))
        sign_key = EnrollmentToken.parse((self.manager.data / "enroll.token").read_text()).sign_key
        network = stack.enter_context(Network())
        self.addresses = ("203.0.113.1", "203.0.113.2")
        self.fences: list[FenceProcess] = []
        self.guards: list[GuardProcess] = []
        hosts = [network.host(f"{address}/24", gateway=GATEWAY) for address in self.addresses]
        attackers = [f"{address}/24" for address in (ATTACKER, SECOND, BYSTANDER, GATEWAY)]
        self.client: NetworkHost = network.host(*attackers)
        for number, host in enumerate(hosts, 1):
            place = home / f"fence-{number}"
            place.mkdir()
            stack.enter_context(EchoService(host, 22))
            self.fences.append(stack.enter_context(FenceProcess(host, place, sign_keys=[sign_key])))
            environment = {**quick, "PANGUARD_FENCE_SOCKET": str(self.fences[-1].socket)}
            self.guards.append(GuardProcess(self.manager, f"web-{number}", environment))
            stack.callback(self.guards[-1].stop)
            self.guards[-1].start()
        self._simulate(home, stack)

    def _simulate(self, home: Path, stack: ExitStack) -> None:
        words = ["--agents", "20", "--threats", "2000", "--rate", "5", "--shared-attackers", "0.5", "--heartbeats"]
        tokens = {"MANAGER_AUTH_TOKEN": "admin.token", "PANGUARD_ENROLL_TOKEN": "enroll.token"}
        given = {name: (self.manager.data / file).read_text().strip() for name, file in tokens.items()}
        environment = {**os.environ, **given, "MANAGER_URL": self.manager.http}
        with (home / "simulate.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 -- our own command
                [sys.executable, "-m", "panguard", "simulate", "--manager", self.manager.mqtt, *words],
                stdout=log,
                stderr=log,
                env=environment,
            )
        stack.callback(process.wait, 60)
        stack.callback(process.kill)

    def reached(self, source: str) -> list[bool]:
        """Return of each host whether its service answers a source."""
        return [self.client.reaches(address, 22, source) for address in self.addresses]

    def attack(self, source: str) -> None:
        """Connect to each host, and let each log five wrong passwords."""
        assert self.reached(source) == [True, True]
        for guard in self.guards:
            guard.attacked_by(source)

    def blocked(self) -> list[str]:
        """Return what the kernels of both hosts block."""
        return [str(fence.elements("block4")) for fence in self.fences]


@pytest.fixture
def fleet(tmp_path: Path, each_deployment: str) -> Iterator[AttackedFleet]:
    del each_deployment
    with ExitStack() as stack:
        yield AttackedFleet(tmp_path, stack)


def test_an_incident_appears_is_undone_by_click_and_gone_from_the_kernels(fleet: AttackedFleet, tmp_path: Path) -> None:
    """It appears by itself in the open page; a cut of the connection loses nothing; every page stands the attack."""
    manager, profile = fleet.manager, tmp_path / "browser"
    profile.mkdir()
    with TcpProxy(int(manager.http.rpartition(":")[2])) as proxy, Browser(profile) as browser:
        sign_in(browser, f"http://127.0.0.1:{proxy.port}", (manager.data / "admin.token").read_text().strip())
        go(browser, f"incidents?value={ATTACKER}", "No incident matches")
        fleet.attack(ATTACKER)
        _appears(browser, ATTACKER)
        eventually(lambda: fleet.reached(ATTACKER) == [False, False], what="a block in both kernels")
        browser.run(_FOLLOW, ATTACKER)
        eventually(lambda: "enforced on 2 of 2" in page_text(browser), what="both kernels in the page")
        click(browser, "Undo the response", "main")
        assert "2 hosts" in second_step(browser)
        click(browser, "Withdraw on 2 hosts", "dialog")
        eventually(lambda: not any(ATTACKER in each for each in fleet.blocked()), what="no block in the kernels")
        assert fleet.reached(ATTACKER) == [True, True]
        assert fleet.reached(BYSTANDER) == [True, True]
        eventually(lambda: "undone" in page_text(browser), what="the undo in the page")

        go(browser, f"incidents?value={SECOND}", "No incident matches")
        with proxy.holding(to_server=True, to_client=True):
            eventually(lambda: browser.run("return document.body.dataset.live") == "lost", what="not live")
            fleet.attack(SECOND)
            eventually(lambda: manager.get("/api/incidents", value=SECOND), what="an incident")
            assert SECOND not in page_text(browser).replace("not live", "")
        proxy.cut()
        eventually(lambda: browser.run("return document.body.dataset.live") == "live", what="live again")
        _appears(browser, SECOND)

        browser.complaints()
        browser.requests()
        for page in PAGES:
            go(browser, page, page.rpartition("/")[2].capitalize())
            eventually(lambda: browser.run(_READY), what="the page")
        assert "22 of 22 agents" in go(browser, "agents", "22 of 22 agents")
        assert "sim-" in go(browser, "threats", "sim-")
        assert browser.complaints() == []
        reached = {each.split("/")[2] for each in browser.requests() if each.startswith("http")}
        assert reached == {f"127.0.0.1:{proxy.port}"}


def _appears(browser: Browser, address: str) -> None:
    """Wait until the open list says that something is new, and an address is in it once it is asked for."""
    press = """
        const found = [...document.querySelectorAll("main button")].find(
            (each) => each.checkVisibility() && each.textContent.endsWith("new: show"));
        found?.click();
        return [...document.querySelectorAll("main a")].some((each) => each.textContent.includes(arguments[0]));
    """
    eventually(lambda: browser.run(press, address), what=f"an incident of {address}", pause=0.5)
