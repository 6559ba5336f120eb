"""The MQTT door: one connection, login and last will for each agent (wire contract, section 2)."""

import asyncio
import ssl

from simulate.address import Address
from simulate.agent import Agent
from simulate.doors.enrollment import Enrollment
from simulate.doors.mqtt_session import LoginRefusedError, MqttSession
from simulate.verifier import Verifier

_OPEN_WITHIN = 30.0
_CONNECTING = 200
_REGISTERING = 50
_REFUSALS_BEFORE_REGISTERING = 3


class MqttDoor:
    """Connects agents to one broker.

    Args:
        address: The broker.
        tls: Verifies the broker's certificate; None for plain text.
        enrollment: Registers agents.
        verifier: Verifies the manager's signatures.
        heartbeat_interval: Seconds; None sends only the first of a session.
    """

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None,
        enrollment: Enrollment,
        verifier: Verifier,
        heartbeat_interval: float | None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._enrollment = enrollment
        self._verifier = verifier
        self._heartbeat_interval = heartbeat_interval
        self._connecting = asyncio.Semaphore(_CONNECTING)
        self._registering = asyncio.Semaphore(_REGISTERING)
        self._refusals: dict[int, int] = {}

    async def session(self, agent: Agent) -> None:
        """See `Door`."""
        if not agent.identity.agent_id:
            async with self._registering:
                await self._enrollment.register(agent)
        async with self._connecting:
            session = await self._open(agent)
        try:
            await session.over
        finally:
            session.cut()

    async def close(self) -> None:
        """Do nothing: agents share no resources over MQTT."""

    async def _open(self, agent: Agent) -> MqttSession:
        agent.begin_session()
        session = MqttSession(agent, self._verifier, self._heartbeat_interval)
        loop = asyncio.get_running_loop()
        server_hostname = self._address.host if self._tls else None
        try:
            async with asyncio.timeout(_OPEN_WITHIN):
                await loop.create_connection(
                    lambda: session,
                    self._address.host,
                    self._address.port,
                    ssl=self._tls,
                    server_hostname=server_hostname,
                )
                await session.opened
        except LoginRefusedError:
            self._refused(agent)
            raise
        except BaseException:
            session.cut()
            raise
        self._refusals.pop(agent.number, None)
        return session

    def _refused(self, agent: Agent) -> None:
        """Count refused logins; after several the agent registers again, because the manager may not know it."""
        count = self._refusals.get(agent.number, 0) + 1
        self._refusals[agent.number] = count
        if count >= _REFUSALS_BEFORE_REGISTERING:
            del self._refusals[agent.number]
            agent.identity.agent_id = ""
