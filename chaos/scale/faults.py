"""The faults of the profile `scale`: SIGKILL, SIGSTOP, and faults of the network on one way of one process."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from chaos.scale.group import Group, Member
from tests.support.tcp_proxy import TcpProxy

_DELAY = 10.0
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class ScaleFault:
    """One kind of fault: its name, its group, and the strike, which returns when the fault is over."""

    name: str
    group: str
    strike: Callable[[Group], None]


def _kill_database(group: Group) -> None:
    group.cluster.kill()
    group.kills += 1
    group.wait(0.0, 5.0)
    group.cluster.start()


def _kill_broker(group: Group) -> None:
    group.mosquitto.kill()
    group.kills += 1
    group.wait(0.0, 5.0)
    group.mosquitto.start()


def _stop_broker(group: Group) -> None:
    if group.mosquitto.pid is not None:
        with group.stopped(group.mosquitto.pid):
            group.wait(0.5, 10.0)


def _stop_database(group: Group) -> None:
    with group.stopped(*group.database_pids()):
        group.wait(0.5, 10.0)


def _stop(member: Callable[[Group], Member]) -> Callable[[Group], None]:
    def strike(group: Group) -> None:
        with group.stopped(member(group).pid()):
            group.wait(0.5, 15.0)

    return strike


def _stop_leader_and_kill_standby(group: Group) -> None:
    leader, standby = group.leader(), group.standby()
    with group.stopped(leader.pid()):
        group.wait(4.0, 9.0)
        standby.signal(signal.SIGKILL)
    group.kill(standby)


def _any(group: Group) -> Member:
    return group.dice.choice([Group.leader, Group.standby, Group.worker])(group)


def _way(group: Group) -> TcpProxy:
    member = _any(group)
    return member.database if group.dice.random() < 0.5 else member.broker  # noqa: PLR2004 -- one of two ways


def _drop(group: Group) -> None:
    way = _way(group)
    with way.holding(to_server=True, to_client=True):
        group.wait(1.0, 15.0)


def _drop_one_way(group: Group) -> None:
    way, to_server = _way(group), group.dice.random() < 0.5  # noqa: PLR2004 -- one of two directions
    with way.holding(to_server=to_server, to_client=not to_server):
        group.wait(1.0, 15.0)


def _delay(group: Group) -> None:
    way = _way(group)
    with way.delaying(_DELAY):
        group.wait(_DELAY, _DELAY * 2)
    way.cut()


def _cut(group: Group) -> None:
    _way(group).cut()


def _new_primary(group: Group) -> None:
    group.fail_over(group.dice.choice((_HOUR, -_HOUR)))


PROCESS_FAULTS = [
    ScaleFault("leader killed", "kill", lambda group: group.kill(group.leader())),
    ScaleFault("stand-by killed", "kill", lambda group: group.kill(group.standby())),
    ScaleFault("worker killed", "kill", lambda group: group.kill(group.worker())),
    ScaleFault("both workers killed", "kill", lambda group: group.kill(*group.workers)),
    ScaleFault("PostgreSQL killed", "kill", _kill_database),
    ScaleFault("Mosquitto killed", "kill", _kill_broker),
    ScaleFault("leader stopped", "pause", _stop(Group.leader)),
    ScaleFault("stand-by stopped", "pause", _stop(Group.standby)),
    ScaleFault("worker stopped", "pause", _stop(Group.worker)),
    ScaleFault("leader stopped, stand-by killed", "pause", _stop_leader_and_kill_standby),
    ScaleFault("PostgreSQL stopped", "pause", _stop_database),
    ScaleFault("Mosquitto stopped", "pause", _stop_broker),
]
NETWORK_FAULTS = [
    ScaleFault("drop", "network", _drop),
    ScaleFault("one-way drop", "network", _drop_one_way),
    ScaleFault("10 s of delay", "network", _delay),
    ScaleFault("connections cut", "network", _cut),
    ScaleFault("new primary, an hour off", "network", _new_primary),
]


def plan(number: int, dice: Random) -> list[ScaleFault]:
    """Return so many faults in a seeded order: a third of the network, each kind as often as any other of its third."""
    network = [NETWORK_FAULTS[each % len(NETWORK_FAULTS)] for each in range(round(number / 3))]
    processes = [PROCESS_FAULTS[each % len(PROCESS_FAULTS)] for each in range(number - len(network))]
    faults = network + processes
    dice.shuffle(faults)
    return faults
