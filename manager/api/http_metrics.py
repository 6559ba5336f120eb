"""Prometheus metrics of the HTTP server, and the text exposition of the whole registry."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Summary, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.api.events.event_stream import EventStream

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNMATCHED = "unmatched"
"""Route label of requests without a matching route, because their paths are untrusted text."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a `_created` series for each metric, which no dashboard reads


class RequestMetrics:
    """Number and duration of requests by method, route and status.

    Args:
        registry: exposes the metric.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route", "status")
        self._seconds = Summary(
            "panguard_http_request_seconds", "Duration of requests in seconds.", labels, registry=registry
        )
        self._children: dict[tuple[str, str, int], Summary] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a request; `route` is a template, never a path."""
        child = self._children.get((method, route, status))
        if child is None:  # `labels` validates its arguments and takes a lock at every call
            child = self._children[method, route, status] = self._seconds.labels(method, route, str(status))
        child.observe(seconds)


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
