"""Sessions at every broker: wills, keep-alive, takeovers, and retained messages."""

import pytest

from schemas.topics import BLOCKLIST, HEARTBEAT, MANAGER_KEYS, POLICY, PREFIX, PRESENCE, THREATS
from tests.contract.members import NOT_ON_AMQTT, NOT_ON_MOSQUITTO, Members
from tests.integration.broker.broker_clients import RawClient, packet, text
from tests.support.waiting import eventually

DISCONNECT = packet(0xE0, b"")


def test_what_is_retained_is_the_newest_and_can_be_cleared(members: Members) -> None:
    """A guard that comes gets the last policy and no earlier one; after an empty message it gets none."""
    manager, policy = members.join("manager"), members.topic(POLICY)
    for version in ("1", "2"):
        manager.publish(policy, version, retain=True)
    first = members.join("own")
    first.subscribe(policy)
    message = first.next()
    assert (message.payload, bool(message.retain)) == (b"2", True)
    manager.publish(policy, "", retain=True)
    assert first.next().payload == b""
    late = members.join("own")
    late.subscribe(policy)
    manager.publish(policy, "live")
    assert late.next().payload == b"live"


def test_the_retain_flag_stands_on_what_is_old_alone(members: Members) -> None:
    """An existing subscriber gets a retained message as a live one; so does one that was away."""
    manager, policy = members.join("manager"), members.topic(POLICY)
    present = members.join("own")
    present.subscribe(policy)
    absent = members.join("mate", "m", clean=False)
    absent.subscribe(members.topic(BLOCKLIST, "mate"))
    absent.close()
    manager.publish(policy, "p", retain=True)
    manager.publish(members.topic(BLOCKLIST), "b", retain=True)
    assert not present.next().retain
    back = members.join("mate", "m", clean=False)
    assert back.session_present
    message = back.next()
    assert (message.payload, bool(message.retain)) == (b"b", False)


def test_retained_messages_come_for_ones_own_filters_alone(members: Members) -> None:
    """A guard that asks for the manager's keys is sent neither its own policy nor anybody else's beside them."""
    manager = members.join("manager")
    for who in ("own", "mate"):
        manager.publish(members.topic(POLICY, who), f"policy of {who}", retain=True)
    manager.publish(MANAGER_KEYS.address(), "keys", retain=True)
    busy = members.join("own")
    busy.subscribe(members.topic(POLICY))
    assert busy.next().payload == b"policy of own"
    guard = members.join("own")
    guard.subscribe_to_all([PREFIX + "manager/+", PREFIX + "agents/+/policy", members.topic(POLICY, "mate")])
    guard.subscribe(members.topic(THREATS).replace("threats", "receipts"))
    manager.publish(members.topic(THREATS).replace("threats", "receipts"), "end")
    heard = {message.topic for message in guard.until("end")}
    assert MANAGER_KEYS.address() in heard
    assert {topic for topic in heard if not topic.startswith(PREFIX + "manager/")} == set()


@pytest.mark.parametrize("end", ["cut", "frozen", "polite"])
def test_a_last_will_is_for_whoever_left_without_a_word(members: Members, end: str) -> None:
    """A guard that was cut, or silent for its keep-alive, leaves its will, retained; one that signs off does not."""
    manager, presence = members.join("manager"), members.topic(PRESENCE)
    manager.subscribe(PRESENCE.filter)
    manager.subscribe(HEARTBEAT.filter)
    keep_alive = 1 if end == "frozen" else 60
    guard = members.raw("own", "guard", keep_alive=keep_alive, will=(presence, "lost"), will_retain=True)
    if end == "cut":
        guard.socket.close()
    elif end == "polite":
        guard.send(DISCONNECT)
    if end == "polite":
        assert guard.is_closed_by_peer()
        members.join("own").publish(members.topic(HEARTBEAT), "end")
        assert manager.until("end") == []
        return
    assert manager.texts(1) == ["lost"]
    late = members.join("manager")
    late.subscribe(PRESENCE.filter)
    message = late.next()
    assert (message.payload, bool(message.retain)) == (b"lost", True)


def test_a_guard_that_takes_its_own_connection_over_is_not_lost(members: Members) -> None:
    """The old connection ends, and its will comes before the birth of the new one."""
    manager, presence = members.join("manager"), members.topic(PRESENCE)
    manager.subscribe(PRESENCE.filter)
    old = members.raw("own", "guard", will=(presence, "lost"))
    new = members.join("own", "guard")
    assert old.is_closed_by_peer()
    new.publish(presence, "online")
    assert manager.texts(2) == ["lost", "online"]


def test_a_manager_that_takes_its_own_connection_over_loses_nothing(members: Members) -> None:
    """Messages that the old connection had not acknowledged are delivered to the new one."""
    own, old = members.join("own"), members.raw("manager", "m", clean=False)
    old.send(packet(0x82, b"\x00\x01" + text(THREATS.filter) + b"\x01"))
    assert old.receive(5)[4] == 1
    own.publish(members.topic(THREATS), "threat")
    new = members.join("manager", "m", clean=False)
    assert old.is_closed_by_peer()
    assert new.texts(1) == ["threat"]


@NOT_ON_MOSQUITTO
@pytest.mark.parametrize("clean", [True, False])
def test_a_takeover_by_another_user_is_refused(members: Members, *, clean: bool) -> None:
    """A client with a login of its own cannot take the connection of a client id's user over."""
    guard = members.join("own", "guard")
    with RawClient(members.fleet.port) as other:
        code = other.connect(members.client_id("guard"), username="registration", password="registration", clean=clean)
    manager = members.join("manager")
    manager.subscribe(THREATS.filter)
    guard.publish(members.topic(THREATS), "still here")
    assert (code, manager.texts(1), guard.paho.is_connected()) == (2, ["still here"], True)


@pytest.mark.parametrize("owner", ["own", "manager"])
def test_who_sits_on_an_id_while_its_owner_is_away_keeps_nobody_out(members: Members, owner: str) -> None:
    """Another client, or another agent with a right login, is refused under that id, or makes room for its owner."""
    login = members.fleet.logins[owner]
    client_id = f"{login.username}-{'0' * 32}"
    for other in ("registering", "mate"):
        with RawClient(members.fleet.port) as squatter:
            given = members.fleet.logins[other]
            squatter.connect(client_id, username=given.username, password=given.password, clean=False)
            with RawClient(members.fleet.port) as back:
                assert back.connect(client_id, username=login.username, password=login.password) == 0
                assert squatter.is_closed_by_peer()


def test_who_takes_an_id_over_gets_nothing_by_it(members: Members) -> None:
    """Accepted or not, it gets no message that waited for the id's user, live or stored."""
    manager, own = members.join("manager", "m", clean=False, manual_ack=True), members.join("own")
    manager.subscribe(THREATS.filter)
    own.publish(members.topic(THREATS), "taken and not acknowledged")
    manager.next()
    with RawClient(members.fleet.port) as thief:
        code = thief.connect(members.client_id("m"), username="registration", password="registration", clean=False)
        own.publish(members.topic(THREATS), "while it is there")
        if code == 0:
            thief.send(packet(0xC0, b""))
            assert thief.receive(2) == b"\xd0\x00"  # the answer to its ping, with nothing before it
    eventually(lambda: code != 0 or not manager.paho.is_connected(), what="the end of what was taken over")


@NOT_ON_AMQTT
def test_sessions_and_what_is_retained_outlive_a_restart(members: Members) -> None:
    """A broker that an operator restarts has the policies, and what waited for the manager; amqtt's keeps nothing.

    What the manager makes of that is shown with a real one.
    """
    fleet, policy = members.fleet, members.topic(POLICY)
    own, manager = members.join("own"), members.join("manager", "m", clean=False)
    manager.subscribe(THREATS.filter)
    manager.publish(policy, "policy", retain=True)
    manager.close()
    own.publish(members.topic(THREATS), "waited")
    fleet.restart()
    back = members.join("manager", "m", clean=False)
    assert back.session_present
    assert back.texts(1) == ["waited"]
    guard = members.join("own")
    guard.subscribe(policy)
    back.publish(policy, "live")
    assert guard.texts(2) == ["policy", "live"]


@NOT_ON_AMQTT
def test_mqtt_5_is_spoken(members: Members) -> None:
    """A CONNECT of MQTT 5 with a right login is accepted. amqtt answers that it does not support it."""
    login = members.fleet.logins["registering"]
    with RawClient(members.fleet.port) as client:
        head = text("MQTT") + b"\x05\xc2\x00\x3c\x00"
        client.send(packet(0x10, head + text("a" * 32) + text(login.username) + text(login.password)))
        kind, _length, _flags, reason = client.receive(4)
    assert (kind, reason) == (0x20, 0)


@pytest.mark.parametrize("who", ["manager", "observer", "own"])
def test_a_shared_subscription_is_refused(members: Members, who: str) -> None:
    """Nothing in the contract needs one; so neither broker grants what amqtt would never serve."""
    assert members.join(who).subscribe(f"$share/group/{members.topic(POLICY)}") == 0x80
