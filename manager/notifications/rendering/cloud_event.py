"""Messages as CloudEvents 1.0 in the structured JSON format."""

from typing import Any

from manager.domain.notifications.event import Event
from manager.domain.notifications.message import Message
from manager.notifications.rendering.identity import ChannelIdentity
from manager.notifications.rendering.json_values import bounded, rfc3339
from manager.notifications.rendering.machine_text import machine_text
from manager.notifications.rendering.subjects import addresses_of

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


def cloud_event(message: Message, identity: ChannelIdentity) -> dict[str, Any]:
    """Return a message as a CloudEvent.

    Its type is ``panguard.`` and the name of the event, or ``panguard.notification`` for a message that sums up
    several. The id is the same at each delivery.
    """
    event = message.event
    attributes = {
        "specversion": "1.0",
        "id": message.id,
        "source": identity.source,
        "type": f"panguard.{'notification' if event is None else event.name}",
        "time": rfc3339(message.at if event is None else event.at),
        "subject": message.group if event is None else event.agent_id,
        "datacontenttype": "application/json",
        "data": {
            "group": message.group,
            "change": message.change.value,
            "severity": message.severity.value,
            "organizationId": message.organization_id,
            "text": machine_text(message),
            "command": message.command,
            "link": message.link,
            "addresses": None if event is None else addresses_of(event),
            "event": None if event is None else _record(event),
        },
    }
    return {name: bounded(value) for name, value in attributes.items() if value is not None}


def _record(event: Event) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "name": event.name,
        "topic": event.topic.value,
        "at": rfc3339(event.at),
        "organizationId": event.organization_id,
        "agentId": event.agent_id,
        "hostname": event.hostname,
        "site": event.site,
        "data": event.data,
    }
