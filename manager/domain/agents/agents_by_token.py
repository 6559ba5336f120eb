"""Index of agents by the SHA-256 of their HTTP token."""

from manager.domain.agents.agent import Agent

_BUCKETS = 8192


class AgentsByToken:
    """Agents by the digest of their HTTP token, in buckets: a third of the memory of a dict by digest.

    A bucket is replaced as a whole, so another thread may look for an agent meanwhile.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[Agent, ...]] = {}

    def find(self, digest: bytes) -> Agent | None:
        """Return the agent with this digest; of several with one token, the last added; safe from any thread."""
        for agent in self._buckets.get(_bucket(digest), ()):
            if agent.credential.http_digest == digest:
                return agent
        return None

    def add(self, agent: Agent) -> None:
        """Add an agent, which is not here yet; its credential must not change while it is here."""
        bucket = _bucket(agent.credential.http_digest)
        self._buckets[bucket] = (agent, *self._buckets.get(bucket, ()))

    def discard(self, agent: Agent) -> None:
        """Take an agent out, if it is here."""
        bucket = _bucket(agent.credential.http_digest)
        rest = tuple(each for each in self._buckets.get(bucket, ()) if each is not agent)
        if rest:
            self._buckets[bucket] = rest
        else:
            self._buckets.pop(bucket, None)


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "big") % _BUCKETS
