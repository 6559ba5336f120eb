"""Measures provisioning of a whole fleet at Mosquitto: by its file before the start, and by MQTT while it runs.

python -m benchmarks.provisioning [--quick]
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import interpreter
from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, Publication
from manager.provisioning.dynamic_security import DynamicSecurity
from manager.provisioning.logins import FleetLogins
from manager.provisioning.plugin_commands import is_failure
from manager.provisioning.roles import CONTROL, RESPONSES
from schemas.keys import new_secret
from tests.support.engine import Bench
from tests.support.production_mosquitto import ProductionMosquitto

_WAIT = 120.0


def _agents(first: int, number: int) -> dict[str, Agent]:
    host = Host.of("srv", "Linux", "x64", "1")
    made = (
        Agent(n, f"ag-{n:016x}", "default", host, credential_of(new_secret()), None, Door.MQTT, 0.0)
        for n in range(first, first + number)
    )
    return {agent.agent_id: agent for agent in made}


@contextmanager
def _keeper(broker: ProductionMosquitto, agents: dict[str, Agent]) -> Iterator[tuple[DynamicSecurity, Client]]:
    username, password = broker.credential("manager")
    client = Client(CallbackAPIVersion.VERSION2, "benchmark")
    client.username_pw_set(username, password)

    def publish(publication: Publication) -> None:
        client.publish(publication.topic, publication.payload, 1)

    keeper = DynamicSecurity(publish, FleetLogins(agents, {}), Counter())
    client.on_connect = lambda *_: client.subscribe(RESPONSES)
    client.on_subscribe = lambda *_: keeper.connected()
    client.on_message = lambda _client, _data, message: keeper.handle_response(message.payload)
    client.connect("127.0.0.1", broker.port)
    try:
        yield keeper, client
    finally:
        client.disconnect()


def _by_mqtt(number: int) -> float:
    """Return the seconds until a running broker without agents has all of a fleet."""
    with tempfile.TemporaryDirectory() as home, ProductionMosquitto(Path(home) / "data", Path(home) / "b") as broker:
        began = time.perf_counter()
        with _keeper(broker, _agents(0, number)) as (keeper, client):
            while not keeper.in_sync and time.perf_counter() - began < _WAIT:
                client.loop(0.01)
        if not keeper.in_sync:
            raise SystemExit("the broker was not told in time")
        return time.perf_counter() - began


def _by_file(number: int) -> tuple[float, float, float, int]:
    """Return the seconds for the file, for the broker's start and for one more agent, and the file's size."""
    with tempfile.TemporaryDirectory() as home:
        data = Path(home) / "data"
        data.mkdir()
        (data / "manager.key").touch(0o600)
        (data / "manager.key").write_text(bytes(32).hex())
        bench = Bench(data)
        with bench.database.atomic():
            for agent in _agents(1, number).values():
                agent.host = Host.of(agent.agent_id, "Linux", "x64", "1")
                bench.fleet.registry.load(agent)
        bench.store.commit(_saved(bench))
        bench.database.close()
        began = time.perf_counter()
        broker = ProductionMosquitto(data, Path(home) / "b")
        broker.prepare()
        written = time.perf_counter()
        with broker:
            started = time.perf_counter()
            more = next(iter(_agents(number + 1, 1).values()))
            taken = _one_more(broker, more)
            size = (broker.directory / "dynamic-security.json").stat().st_size
        return written - began, started - written, taken, size


def _saved(bench: Bench) -> Changes:
    return Changes(agents=dict(bench.fleet.registry.agents))


def _one_more(broker: ProductionMosquitto, agent: Agent) -> float:
    with _keeper(broker, {}) as (keeper, client):
        answers: list[bytes] = []
        client.on_subscribe = lambda *_: keeper.admit(agent, replaced=False)
        client.on_message = lambda _client, _data, message: answers.append(message.payload)
        began = time.perf_counter()
        while not answers and time.perf_counter() - began < _WAIT:
            client.loop(0.01)
        failed = [answer for answer in json.loads(answers[0])["responses"] if is_failure(answer)]
        if failed:
            raise SystemExit(f"the broker refused: {failed}")
        return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--quick", action="store_true")
    quick = words.parse_args().quick
    interpreter.announce()
    print(f"{CONTROL}: a Mosquitto is told of agents, each a login in its organization's role")
    for number in (100,) if quick else (250, 500, 1_000):
        print(f"  by MQTT, {number:6,} agents: {_by_mqtt(number):7.1f} s")
    for number in (1_000,) if quick else (1_000, 10_000):
        written, started, more, size = _by_file(number)
        print(
            f"  by its file, {number:6,}: {written:5.1f} s to write {size / 1e6:.1f} MB, {started:.1f} s to start; "
            f"one more by MQTT {more:.2f} s"
        )


if __name__ == "__main__":
    main()
