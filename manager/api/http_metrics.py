"""Prometheus metrics of the HTTP server, and the text exposition of the whole registry."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from manager.api.events.event_stream import EventStream

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNMATCHED = "unmatched"
"""Route label of requests without a matching route, because their paths are untrusted text."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series for each metric, which no dashboard reads


class RequestMetrics(Collector):
    """Number and duration of requests by method, route and status; only the server's event loop records them.

    Args:
        registry: exposes the metric.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals: dict[tuple[str, str, int], tuple[int, float]] = {}
        registry.register(self)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a request; `route` is a template, never a path."""
        key = method, route, status
        number, total = self._totals.get(key, (0, 0.0))
        self._totals[key] = number + 1, total + seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the metric of this moment."""
        labels = ("method", "route", "status")
        family = SummaryMetricFamily("panguard_http_request_seconds", "Duration of requests in seconds.", labels=labels)
        for (method, route, status), (number, total) in tuple(self._totals.items()):
            family.add_metric((method, route, str(status)), number, total)
        yield family


class EventStreamCollector(Collector):
    """Subscribers of the event stream, read at each scrape."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        yield GaugeMetricFamily("panguard_event_stream_readers", "Subscribers of the event stream.", len(self._stream))
        yield CounterMetricFamily(
            "panguard_event_stream_dropped", "Subscribers dropped for falling behind.", self._stream.dropped
        )


def expose(registry: CollectorRegistry) -> bytes:
    """Return all metrics of the registry in the text exposition format."""
    return generate_latest(registry)
