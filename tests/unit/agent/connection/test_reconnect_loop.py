"""How a guard stays connected: what it dials after which failure, on a virtual clock."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Clock
from agent.connection.identity import Enrolled, IdentityFile
from agent.connection.mqtt_registration import MqttRegistration, RegistrationFields
from agent.connection.presence_messages import PresenceMessages
from agent.connection.reconnect_loop import Backoff, Connector, Phase
from agent.errors import EnrollmentError
from agent.host import HostFacts, Load
from agent.link.link import (
    Account,
    Closed,
    Delivered,
    Event,
    Link,
    MessageReceived,
    Opened,
    PolicyReceived,
    Post,
    ReceiptReceived,
    Subscribed,
    Will,
)
from agent.settings import GuardSettings
from schemas import message_codes, topics
from schemas.decoding import decode
from schemas.generations import StoreGeneration
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.model import WireModel
from schemas.presence import ManagerKeys, Presence
from schemas.registration import RegistrationReply, Rejection
from schemas.threats import Receipt
from schemas.topics import Topic
from tests.unit.agent.fake_link import FakeLink

AGENT = "ag-00000000000000aa"
KEYRING = ManagerKeyring(bytes(range(32)))
TOKEN = EnrollmentToken.new(KEYRING.sign_public)
ENROLLED = Enrolled(AGENT, "default", KEYRING.sign_public)


class SessionListener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def online(self, link: Link, session: int, peer: str | None, now: float) -> None:
        del link, peer, now
        self.told.append(f"online {session}")

    def ready(self, session: int) -> None:
        self.told.append(f"ready {session}")

    def offline(self) -> None:
        self.told.append("offline")

    def message(self, row: Topic, payload: bytes, now: float) -> None:
        del payload, now
        self.told.append(row.name)

    def asked(self, generation: StoreGeneration, now: float) -> None:
        del generation, now

    def settled(self, receipt: Receipt, now: float) -> None:
        del now
        self.told.append(f"stored {receipt.stored}")

    def offered(self, document: Mapping[str, Any], now: float) -> None:
        del now
        self.told.append(f"offered {document}")


class Desk:
    """A connection whose links are in memory; waits after failures are always the longest possible."""

    def __init__(self, directory: Path, *, token: bool, enrolled: bool) -> None:
        self.now = 0.0
        self.dialled: list[tuple[Account, Will | None, FakeLink]] = []
        self.listener = SessionListener()
        self.identity = IdentityFile(directory)
        if enrolled:
            self.identity.enroll(ENROLLED, known_session=0)
        clock = Clock(lambda: 1e9, lambda: self.now)
        settings = GuardSettings(registration_timeout=5, registration_attempts=3)

        def apply() -> MqttRegistration:
            known = self.identity.identity
            return MqttRegistration(
                fields=RegistrationFields(TOKEN, known.secret, HostFacts("srv-01", "Debian", "x64", "1")),
                settings=settings,
                clock=clock,
                started=0.0,
                keep=self.identity.await_answer,
                pending=known.pending,
            )

        self.connection = Connector(
            dial=self._dial,
            identity=self.identity,
            apply=apply if token else None,
            liveness=PresenceMessages(clock, 0.0, 0, lambda: Load(0, 0)),
            connect_timeout=15,
            post=lambda _link, _event: None,
            listener=self.listener,
            ignored=Counter(),
            backoff=Backoff(1, 60, lambda _low, high: high),
        )
        self.connection.tick(self.now)

    def _dial(self, account: Account, will: Will | None, post: Post) -> FakeLink:
        del post
        link = FakeLink()
        self.dialled.append((account, will, link))
        return link

    @property
    def link(self) -> FakeLink:
        return self.dialled[-1][2]

    @property
    def usernames(self) -> list[str]:
        return [account.username for account, _, _ in self.dialled]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.connection.tick(self.now)

    def say(self, event: Event) -> None:
        self.connection.handle(self.link, event, self.now)

    def go_online(self) -> None:
        self.say(Opened())
        self.say(Subscribed(self.link.subscribed[-1]))

    def offer_keys(self) -> str:
        """Announce the manager's keys; return the client id of the registration that follows."""
        self.say(Opened())
        keys = ManagerKeys(sign_key=KEYRING.sign_public, seal_key=KEYRING.seal_public)
        below = topics.MANAGER_KEYS.below_root()
        self.say(
            MessageReceived(topics.MANAGER_KEYS, message_codes.with_signature(KEYRING.sign_key, below, keys.body()))
        )
        return self.dialled[-1][0].client_id

    def answer(self, client_id: str, message: WireModel) -> None:
        below = topics.REGISTRATION_REPLY.below_root(client_id)
        self.say(
            MessageReceived(
                topics.REGISTRATION_REPLY, message_codes.with_signature(KEYRING.sign_key, below, message.body())
            )
        )

    def refuse(self, client_id: str, error: Any, reason: str, registration: bytes) -> None:
        digest = message_codes.payload_digest(registration)
        self.answer(client_id, Rejection(client_id=client_id, digest=digest, error=error, reason=reason))

    def accept(self, session: int = 0) -> None:
        client_id = self.offer_keys()
        reply = RegistrationReply(client_id=client_id, agent_id=AGENT, organization_id="default", session=session)
        self.answer(client_id, reply)


def test_a_registered_guard_connects_at_once_with_a_will(tmp_path: Path) -> None:
    """After the reply the same guard dials as the agent, with a will of the session that it is about to begin."""
    desk = Desk(tmp_path, token=True, enrolled=False)
    desk.accept(session=6)
    account, will, _ = desk.dialled[-1]
    assert desk.usernames == ["registration", AGENT]
    assert account.client_id == desk.identity.identity.mqtt_client_id
    assert account.password == desk.identity.identity.keys.mqtt_password
    assert will is not None
    lost = decode(Presence, will.payload, topics.PRESENCE.limit)
    assert (lost.state, lost.session) == ("lost", 7)


def test_the_birth_waits_for_the_subscriptions(tmp_path: Path) -> None:
    """All subscriptions are made in one go, and then the guard is born."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    desk.say(Opened())
    assert desk.link.subscribed == [
        (topics.PRESENCE, topics.MANAGER_KEYS, topics.RECEIPTS, topics.POLICY, topics.BLOCKLIST_CHANGES)
    ]
    assert desk.link.published == []
    desk.say(MessageReceived(topics.POLICY, b"early"))
    desk.say(Subscribed(desk.link.subscribed[-1]))
    desk.say(Delivered(1))
    assert [row for row, _ in desk.link.published] == [topics.PRESENCE]
    assert desk.listener.told == ["online 1", "policy", "ready 1"]


def test_failures_wait_longer_and_a_lasting_session_forgets_them(tmp_path: Path) -> None:
    """Waits double from failure to failure; after ten seconds online the next failure is a first one."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    for wait in (1, 2, 4):
        desk.say(Closed("refused"))
        assert desk.connection.due == desk.now + wait
        desk.wait(wait)
    desk.go_online()
    desk.now += 9
    desk.say(Closed("lost"))
    assert desk.connection.due == desk.now + 8
    desk.wait(8)
    desk.go_online()
    desk.now += 10
    desk.say(Closed("lost"))
    assert desk.connection.due == desk.now + 1
    assert desk.listener.told == ["online 4", "offline", "online 5", "offline"]


def test_a_side_that_asks_for_time_gets_it_and_the_jitter(tmp_path: Path) -> None:
    """What `Closed` asks for comes before the wait of one's own, so that a fleet does not return in one moment."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    desk.say(Closed("busy", retry_after=5))
    assert desk.connection.due == desk.now + 5 + 1


def test_a_managers_own_answers_reach_the_guard_in_their_order(tmp_path: Path) -> None:
    """A policy that comes while the session opens waits for it; what became of reports is passed on."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    desk.say(Opened())
    desk.say(PolicyReceived({"version": 1}))
    assert desk.listener.told == []
    desk.say(Subscribed(desk.link.subscribed[-1]))
    desk.say(ReceiptReceived(Receipt(stored=["a"])))
    assert desk.listener.told == ["online 1", "offered {'version': 1}", "stored ['a']"]


def test_a_broker_that_never_answers_is_left(tmp_path: Path) -> None:
    """A connection that is not open after the timeout is closed, and another one follows."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    silent = desk.link
    desk.wait(15)
    assert not silent.open
    assert desk.connection.phase is Phase.WAITING
    desk.wait(1)
    assert desk.connection.phase is Phase.CONNECTING
    desk.go_online()
    assert desk.connection.phase is Phase.ONLINE
    assert desk.connection.due == float("inf")


def test_what_an_old_link_still_tells_is_ignored(tmp_path: Path) -> None:
    """Only the link of now counts."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    old = desk.link
    desk.say(Closed("lost"))
    desk.wait(1)
    desk.go_online()
    desk.connection.handle(old, Closed("lost again"), desk.now)
    assert desk.connection.phase is Phase.ONLINE


def test_a_refused_account_registers_again_with_a_token(tmp_path: Path) -> None:
    """An agent that was removed, or whose credential was replaced, comes back by its token, after a wait."""
    desk = Desk(tmp_path, token=True, enrolled=False)
    desk.accept()
    desk.say(Closed("Not authorized", unauthorized=True))
    assert desk.connection.phase is Phase.WAITING
    desk.wait(1)
    desk.accept(session=9)
    assert desk.usernames == ["registration", AGENT, "registration", AGENT]
    assert desk.identity.identity.session == 10


def test_a_refused_account_without_a_token_keeps_trying(tmp_path: Path) -> None:
    """Without a token it can only try again, as the manager may let it in again."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    desk.say(Closed("Not authorized", unauthorized=True))
    desk.wait(1)
    assert desk.usernames == [AGENT, AGENT]


def test_a_refused_account_without_a_token_says_what_is_likely(tmp_path: Path) -> None:
    """The agent was removed, or another guard has its hostname; and how it is registered again."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    desk.say(Closed("Not authorized", unauthorized=True))
    trouble = desk.connection.trouble
    assert trouble is not None
    assert trouble.startswith("Not authorized: this agent was removed at the manager, or another guard registered with")
    assert "enrollment token" in trouble
    assert "--hostname" in trouble


def test_a_known_guard_goes_on_when_nobody_answers(tmp_path: Path) -> None:
    """Three sends of the same bytes without an answer, and a guard with an identity connects with that."""
    desk = Desk(tmp_path, token=True, enrolled=True)
    desk.offer_keys()
    for _ in range(3):
        desk.wait(5)
    assert len(desk.link.take(topics.REGISTRATION)) == 3
    assert desk.connection.phase is Phase.WAITING
    desk.wait(1)
    assert desk.usernames == ["registration", AGENT]


def test_a_new_guard_waits_for_a_manager(tmp_path: Path) -> None:
    """Without keys at the broker nothing is sent, and the guard tries again."""
    desk = Desk(tmp_path, token=True, enrolled=False)
    desk.say(Opened())
    desk.wait(5)
    assert desk.dialled[0][2].published == []
    desk.wait(1)
    assert desk.usernames == ["registration", "registration"]


@pytest.mark.parametrize("error", ["bad_proof", "unknown_token", "expired_token", "used_token"])
def test_a_new_guard_ends_where_no_retry_helps(tmp_path: Path, error: str) -> None:
    """The manager's reason is the guard's last word."""
    desk = Desk(tmp_path, token=True, enrolled=False)
    client_id = desk.offer_keys()
    (registration,) = desk.link.take(topics.REGISTRATION)
    with pytest.raises(EnrollmentError, match=f"{error}.*make a new token"):
        desk.refuse(client_id, error, "make a new token", registration)


def test_a_rejection_of_what_the_guard_never_said_is_ignored(tmp_path: Path) -> None:
    """A registration that was changed on its way is rightly refused, and the guard goes on with its own."""
    desk = Desk(tmp_path, token=True, enrolled=False)
    client_id = desk.offer_keys()
    (registration,) = desk.link.take(topics.REGISTRATION)
    desk.refuse(client_id, "bad_proof", "copy the token whole", registration[:-1])
    assert desk.connection.phase is Phase.REGISTERING
    desk.wait(5)
    assert desk.link.take(topics.REGISTRATION) == [registration]


def test_an_old_registration_that_is_refused_is_made_anew(tmp_path: Path) -> None:
    """One kept over a restart may be outdated in many ways: a fresh one follows before the guard gives up."""
    first = Desk(tmp_path, token=True, enrolled=False)
    kept = first.offer_keys()
    second = Desk(tmp_path, token=True, enrolled=False)
    assert second.offer_keys() == kept
    second.refuse(kept, "unknown_token", "no", *second.link.take(topics.REGISTRATION))
    second.wait(1)
    assert second.offer_keys() != kept


def test_an_answer_to_somebody_else_is_ignored(tmp_path: Path) -> None:
    """A rightly signed reply for another client id names nobody here."""
    desk = Desk(tmp_path, token=True, enrolled=False)
    client_id = desk.offer_keys()
    desk.answer(client_id, RegistrationReply(client_id="f" * 32, agent_id=AGENT, organization_id="default", session=0))
    assert desk.connection.phase is Phase.REGISTERING
    assert desk.identity.identity.enrolled is None


def test_signing_off_says_offline_once(tmp_path: Path) -> None:
    """An open session ends with `offline` under its number; without one there is nothing to say."""
    desk = Desk(tmp_path, token=False, enrolled=True)
    assert desk.connection.sign_off() is None
    desk.go_online()
    desk.link.take(topics.PRESENCE)
    assert desk.connection.sign_off() is not None
    (payload,) = desk.link.take(topics.PRESENCE)
    offline = decode(Presence, payload, topics.PRESENCE.limit)
    assert (offline.state, offline.session) == ("offline", 1)
    desk.connection.close()
    assert not desk.link.open
    assert desk.connection.due == float("inf")
