"""Metrics of the notification channels, read at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.notifications.notifier import Notifier

_COUNTERS = (
    ("panguard_notifications_sent", "Messages delivered to a channel.", "sent"),
    ("panguard_notifications_given_up", "Messages that a channel refused, or that were tried for too long.", "givenUp"),
    ("panguard_notifications_events_not_told", "Events deleted before a channel had taken them.", "notTold"),
)
_GAUGES = (
    ("panguard_notifications_pending", "Messages that wait for delivery.", "pending"),
    ("panguard_notifications_behind", "Events that a channel has not taken.", "behind"),
)


class NotificationCollector(Collector):
    """Figures of each channel.

    Args:
        notifier: its channels are read.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics; safe from any thread."""
        records = self._notifier.records()
        for kind, families in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for name, about, member in families:
                family = kind(name, about, labels=["channel"])
                for record in records:
                    family.add_metric([record["name"]], record[member])
                yield family
        failing = GaugeMetricFamily(
            "panguard_notifications_failing", "1 if a channel fails, else 0.", labels=["channel"]
        )
        for record in records:
            failing.add_metric([record["name"]], float(record["failingSince"] is not None))
        yield failing
