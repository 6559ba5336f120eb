"""The faults of the profile `scale`: SIGKILL, SIGSTOP, and faults of the network on one way of one process."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import psutil

from chaos.scale.group import Group, Member
from chaos.scale.network import Way
from chaos.scale.proxy import Direction
from chaos.site import SiteError

_DELAY = 10.0
_HOUR = 3600
_CLOCK_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class ScaleFault:
    """One kind of fault: its name, its group, and the strike, which returns when the fault is over."""

    name: str
    group: str
    strike: Callable[[Group], None]


def _kill_database(group: Group) -> None:
    group.cluster.kill_all()
    group.kills += 1
    group.wait(0.0, 2.0, 6.0)
    group.cluster.start()


def _kill_broker(group: Group) -> None:
    group.mosquitto.kill()
    group.kills += 1
    group.wait(0.0, 2.0, 6.0)
    group.mosquitto.start()


def _stop_broker(group: Group) -> None:
    if group.mosquitto.pid is not None:
        with group.stopped(psutil.Process(group.mosquitto.pid)):
            group.wait(0.5, 6.0, 16.0)


def _stop_database(group: Group) -> None:
    with group.stopped(*group.database_processes()):
        group.wait(0.5, 7.0, 16.0)


def _stop(member: Callable[[Group], Member]) -> Callable[[Group], None]:
    def strike(group: Group) -> None:
        with group.stopped(psutil.Process(member(group).pid())):
            group.wait(0.5, 9.0, 30.0)

    return strike


def _stop_leader_and_kill_standby(group: Group) -> None:
    leader, standby = group.leader(), group.standby()
    with group.stopped(psutil.Process(leader.pid())):
        group.wait(4.0, 9.0)
        standby.signal(signal.SIGKILL)
    group.kill(standby)


def _any(group: Group) -> Member:
    return group.dice.choice([Group.leader, Group.standby, Group.worker])(group)


def _way(group: Group) -> Way:
    member = _any(group)
    is_database = group.dice.random() < 0.5  # noqa: PLR2004 -- one of two ways
    group.notes.append("to the database" if is_database else "to the broker")
    return member.database if is_database else member.broker


def _drop(group: Group) -> None:
    with _way(group).dropping("server", "client"):
        group.wait(1.0, 9.0, 20.0)


def _hold(group: Group) -> None:
    with _way(group).holding("server", "client"):
        group.wait(1.0, 9.0, 20.0)


def _drop_one_way(group: Group) -> None:
    way = _way(group)
    direction: Direction = group.dice.choice(("server", "client"))
    group.notes.append(f"what is for the {direction}")
    with way.dropping(direction):
        group.wait(1.0, 9.0, 20.0)


def _delay(group: Group) -> None:
    way = _way(group)
    with way.delaying(_DELAY):
        group.wait(_DELAY, _DELAY + 2.0, _DELAY + 15.0)
    if group.dice.random() < 0.5:  # noqa: PLR2004 -- else what is on its way still arrives
        group.notes.append("then cut")
        way.cut()


def _cut(group: Group) -> None:
    _way(group).cut()


def _new_primary(group: Group) -> None:
    seconds = group.dice.choice((_HOUR, -_HOUR))
    group.notes = [f"{seconds:+d} s"]
    group.fail_over(seconds)
    if abs(group.clock_offset() - seconds) > _CLOCK_WITHIN:
        raise SiteError("the new primary's clock was not shifted")


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
    ScaleFault("held, then delivered", "network", _hold),
    ScaleFault("10 s of delay", "network", _delay),
    ScaleFault("connections cut", "network", _cut),
    ScaleFault("new primary, an hour off", "network", _new_primary),
]


def plan(number: int, dice: Random, only: str | None = None) -> list[ScaleFault]:
    """Return so many faults in a seeded order: a third of the network, each kind as often as any other of its third.

    Args:
        number: the number of faults.
        dice: the seeded source of the order.
        only: part of a name or group: all faults are of the kinds that have it.
    """
    if only is not None:
        kinds = [each for each in PROCESS_FAULTS + NETWORK_FAULTS if only in each.name or only in each.group]
        faults = [kinds[each % len(kinds)] for each in range(number)] if kinds else []
        dice.shuffle(faults)
        return faults
    network = [NETWORK_FAULTS[each % len(NETWORK_FAULTS)] for each in range(round(number / 3))]
    processes = [PROCESS_FAULTS[each % len(PROCESS_FAULTS)] for each in range(number - len(network))]
    faults = network + processes
    dice.shuffle(faults)
    return faults
