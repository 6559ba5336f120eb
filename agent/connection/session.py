"""One session of an enrolled guard: last will, subscriptions, birth, and checks of its own retained presence."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Protocol

from agent.connection.identity import Enrolled, Identity
from agent.connection.presence_messages import PresenceMessages
from agent.link.link import (
    Account,
    Delivered,
    Event,
    GenerationReceived,
    Link,
    MessageReceived,
    Opened,
    PolicyReceived,
    ReceiptReceived,
    Subscribed,
    Will,
)
from agent.logs import EventLog
from schemas import message_codes
from schemas.decoding import DecodeError, decode
from schemas.generations import StoreGeneration
from schemas.presence import Presence
from schemas.threats import Receipt
from schemas.topics import BLOCKLIST_CHANGES, MANAGER_KEYS, POLICY, PRESENCE, RECEIPTS, Topic

_log = EventLog("session")

# The maximum number of retained messages kept that a broker sends before it acknowledges the subscription.
_MOST_EARLY = 16
# A rotation of the manager's key is read before the messages that the new key has signed.
_SUBSCRIPTIONS = (PRESENCE, MANAGER_KEYS, RECEIPTS, POLICY, BLOCKLIST_CHANGES)


class SessionListener(Protocol):
    """Callbacks of a session."""

    def online(self, link: Link, session: int, peer: str | None, now: float) -> None:
        """Handle the start of a session, after its birth was sent; `peer` is the other side's address, if known."""
        ...

    def ready(self, session: int) -> None:
        """Handle the acknowledgement of the birth."""
        ...

    def offline(self) -> None:
        """Handle the end of the session."""
        ...

    def message(self, row: Topic, payload: bytes, now: float) -> None:
        """Handle a message of any topic except the own presence, before its message code is checked."""
        ...

    def settled(self, receipt: Receipt, now: float) -> None:
        """Handle a receipt from the manager's HTTP answer."""
        ...

    def asked(self, generation: StoreGeneration, now: float) -> None:
        """Handle the generation of the store from the manager's HTTP answer."""
        ...

    def offered(self, document: Mapping[str, Any], now: float) -> None:
        """Handle a policy from the manager's HTTP answer."""
        ...


class Session:
    """One session on one connection, from dialing to the end.

    The birth is published after the subscriptions are acknowledged, so the retained presence of an earlier session is
    read before this birth replaces it.

    Args:
        identity: The guard's identity, with the number of this session.
        enrolled: Its registration.
        liveness: Builds presence messages.
        listener: Receives the session's callbacks.
        ignored: Counts rejected messages by reason.
    """

    def __init__(
        self,
        identity: Identity,
        enrolled: Enrolled,
        liveness: PresenceMessages,
        listener: SessionListener,
        ignored: Counter[str],
    ) -> None:
        keys = identity.keys
        self.number = identity.session
        self.organization_id = enrolled.organization_id
        self._agent_id = enrolled.agent_id
        self._mac_key = keys.mac_key
        self._liveness = liveness
        self._listener = listener
        self._ignored = ignored
        self._birth: int | None = None
        self._echoed = False
        self._peer: str | None = None
        self._early: deque[MessageReceived | PolicyReceived] = deque(maxlen=_MOST_EARLY)
        self.online_since: float | None = None
        liveness.begin(self.number)
        self.will = Will(PRESENCE, liveness.presence(self._agent_id, self._mac_key, "lost"))
        self.account = Account(
            identity.mqtt_client_id,
            enrolled.agent_id,
            enrolled.token or keys.mqtt_password,
            {"agentId": enrolled.agent_id, "organizationId": enrolled.organization_id},
        )

    def handle(self, link: Link, event: Event, now: float) -> int | None:
        """Handle a link event.

        Returns:
            A session number in use that the next session must exceed; else None.
        """
        match event:
            case Opened(peer):
                self._peer = peer
                link.subscribe(*_SUBSCRIPTIONS)
            case Subscribed(_, refused):
                self._subscribed(link, refused, now)
            case Delivered(number) if number == self._birth:
                self._birth = None
                self._listener.ready(self.number)
            case MessageReceived(row, payload) if row is PRESENCE:
                return self._own_presence(link, payload)
            case MessageReceived() | PolicyReceived() if self.online_since is None:
                self._early.append(event)
            case MessageReceived() | PolicyReceived():
                self._pass_on(event, now)
            case ReceiptReceived(receipt):
                self._listener.settled(receipt, now)
            case GenerationReceived(generation):
                self._listener.asked(generation, now)
        return None

    def sign_off(self, link: Link) -> int | None:
        """Publish `offline`; return the message's number, None if the link is not open."""
        return link.publish(PRESENCE, self._liveness.presence(self._agent_id, self._mac_key, "offline"))

    def end(self) -> None:
        """Notify the listener, if the session was open."""
        if self.online_since is not None:
            self._listener.offline()

    def _subscribed(self, link: Link, refused: tuple[Topic, ...], now: float) -> None:
        if refused:
            names = [row.name for row in refused]
            _log.error("subscription_refused", rows=names, advice="see the broker's access rules for this agent")
        if self.online_since is None:
            self.online_since = now
            self._birth = self._publish_birth(link)
            self._listener.online(link, self.number, self._peer, now)
            while self._early:
                self._pass_on(self._early.popleft(), now)

    def _pass_on(self, event: MessageReceived | PolicyReceived, now: float) -> None:
        if isinstance(event, MessageReceived):
            self._listener.message(event.row, event.payload, now)
        else:
            self._listener.offered(event.document, now)

    def _publish_birth(self, link: Link) -> int | None:
        return link.publish(PRESENCE, self._liveness.presence(self._agent_id, self._mac_key, "online"))

    def _own_presence(self, link: Link, payload: bytes) -> int | None:
        """Handle the guard's own retained presence: overwrite an older session's; exceed a newer session's number.

        For its readers `lost` or `offline` under the current number ends the current session, so that number is
        exceeded, too.
        """
        if not payload:
            return None  # cleared: the agent was removed, and the broker will close the connection
        if not message_codes.has_mac(self._mac_key, PRESENCE.below_root(self._agent_id), payload):
            self._ignored["presence_forged"] += 1
            return None
        try:
            presence = decode(Presence, payload, PRESENCE.limit)
        except DecodeError:
            self._ignored["presence_unreadable"] += 1
            return None
        if presence.session > self.number or (presence.session == self.number and presence.state != "online"):
            return presence.session
        if presence.session == self.number:
            self._echoed = True
        elif self._echoed:  # the own birth overwrites everything that arrives before it
            self._publish_birth(link)
        return None
