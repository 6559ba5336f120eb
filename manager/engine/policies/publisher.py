"""Policy publisher: publishes queued effective policies in slices, and records the broker's confirmations."""

from functools import partial

from manager.engine.batch import Publication
from manager.engine.fleet import Fleet
from manager.engine.policies.queue import PolicyQueue
from manager.engine.policies.signed_policy import PolicySerializer
from manager.engine.ports import Publisher
from manager.engine.write_behind import WriteBehind
from schemas.topics import POLICY


class PolicyPublisher:
    """Publishes the effective policies of queued agents.

    Args:
        fleet: the effective policies.
        publisher: sends the messages; its backlog bounds each slice.
        serializer: signs the messages.
        write_behind: stores the published state of policies.
    """

    def __init__(
        self, fleet: Fleet, publisher: Publisher, serializer: PolicySerializer, write_behind: WriteBehind
    ) -> None:
        self._fleet = fleet
        self._publisher = publisher
        self._serializer = serializer
        self._write_behind = write_behind
        self.queue = PolicyQueue()
        self.add_unpublished()

    @property
    def has_work(self) -> bool:
        """Whether a policy can be published at once."""
        return len(self.queue) > 0 and self._publisher.ready and not self._publisher.backlog

    def add_unpublished(self) -> None:
        """Queue the agents whose policy the broker has not confirmed."""
        self.queue.add(policy.agent_id for policy in self._fleet.policies.effective.values() if not policy.published)

    def publish_slice(self, wall: float) -> None:
        """Publish the next slice of the queue, reduced by the publications that the broker has not confirmed yet.

        Args:
            wall: the time in the messages, seconds since 1970.
        """
        if not self._publisher.ready:
            return
        limit = self._fleet.settings.policies_in_step - self._publisher.backlog
        for agent_id in self.queue.take(max(0, limit)):
            policy = self._fleet.policies.effective.get(agent_id)
            if policy is not None:
                confirm = partial(self._confirmed, agent_id, policy.version)
                payload = self._serializer.message(policy, wall)
                self._publisher.publish(Publication(POLICY.address(agent_id), payload, retained=True, confirm=confirm))

    def _confirmed(self, agent_id: str, version: int) -> None:
        """Mark a policy as published, unless it has changed since."""
        policy = self._fleet.policies.effective.get(agent_id)
        if policy is not None and policy.version == version and not policy.published:
            policy.published = True
            self._write_behind.add_policy(policy)
