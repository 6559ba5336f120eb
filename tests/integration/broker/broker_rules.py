"""The rules by which the brokers under test let clients in and messages through, for the hardened and the stock one."""

from dataclasses import dataclass

from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

PASSWORD = "right"


def authenticate(_username: str | None, password: str | None, _client_id: str) -> bool:
    """Let everybody in who knows the one password."""
    return password == PASSWORD


def may(_action: str, username: str | None, _client_id: str, topic: str) -> bool:
    """Keep everything below ``closed/`` to the user `owner`."""
    return username == "owner" or not topic.startswith("closed/")


def rate_limit_key(username: str | None, _client_id: str) -> str | None:
    """Limit the rate of the user `spender` only."""
    return username if username == "spender" else None


def may_retain(topic: str) -> bool:
    """Retain on topics that end in ``/kept`` and nowhere else."""
    return topic.endswith("/kept")


def is_guest(username: str | None) -> bool:
    """Take the user `visitor` for one whose password everyone knows."""
    return username == "visitor"


class Rules:
    """The same rules as the hardened broker asks for them."""

    authenticate = staticmethod(authenticate)
    may = staticmethod(may)
    rate_limit_key = staticmethod(rate_limit_key)
    is_guest = staticmethod(is_guest)


class StockAuthentication(BaseAuthPlugin):
    """The same rules as stock amqtt asks for them."""

    @dataclass
    class Config:
        """Nothing to configure."""

    async def authenticate(self, *, session: Session) -> bool:
        return authenticate(session.username, session.password, session.client_id or "")


class StockAccess(BaseTopicPlugin):
    """The same rules as stock amqtt asks for them."""

    @dataclass
    class Config:
        """Nothing to configure."""

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool:
        return session is not None and may(str(action), session.username, session.client_id or "", topic or "")
