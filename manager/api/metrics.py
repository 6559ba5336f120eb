"""Writes figures in the format that Prometheus reads."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from manager.api.events.event_stream import EventStream
from manager.api.ports import Measure, Spread

UNMATCHED = "unmatched"


class Traffic:
    """Counts requests. Only the server's own thread writes; others may read at any moment."""

    def __init__(self) -> None:
        self.served: dict[tuple[str, str, int], list[float]] = {}

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take a request into account."""
        line = self.served.get((method, route, status))
        if line is None:
            self.served[method, route, status] = [1, seconds]
        else:
            line[0] += 1
            line[1] += seconds


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Measured = Callable[[], Sequence[Measure | Spread]]


def expose(measured: Measured, traffic: Traffic, stream: EventStream) -> bytes:
    """Return all figures of this moment."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(measured, traffic, stream))
    return generate_latest(registry)


class _Figures(Collector):
    """Reads the figures once for each time that they are asked for; nothing is counted twice."""

    def __init__(self, measured: Measured, traffic: Traffic, stream: EventStream) -> None:
        self._measured = measured
        self._traffic = traffic
        self._stream = stream

    def describe(self) -> list[Metric]:
        """Return nothing: names are known when the figures are read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        for measure in self._measured():
            yield _spread(measure) if isinstance(measure, Spread) else _measure(measure)
        yield self._requests()
        readers = GaugeMetricFamily("panguard_event_stream_readers", "Who watches the event stream.")
        readers.add_metric([], len(self._stream))
        dropped = CounterMetricFamily("panguard_event_stream_dropped", "Readers that were too slow.")
        dropped.add_metric([], self._stream.dropped)
        yield from (readers, dropped)

    def _requests(self) -> Metric:
        family = SummaryMetricFamily(
            "panguard_http_request_seconds", "Requests and their time.", labels=["method", "route", "status"]
        )
        for (method, route, status), (number, seconds) in tuple(self._traffic.served.items()):
            family.add_metric([method, route, str(status)], count_value=int(number), sum_value=seconds)
        return family


def _measure(measure: Measure) -> Metric:
    labels = list(measure.lines[0][0]) if measure.lines else []
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = kind(measure.name, measure.about, labels=labels)
    for values, figure in measure.lines:
        family.add_metric([values[label] for label in labels], figure)
    return family


def _spread(spread: Spread) -> Metric:
    family = HistogramMetricFamily(spread.name, spread.about)
    buckets = [("+Inf" if bound == float("inf") else repr(bound), float(number)) for bound, number in spread.buckets]
    family.add_metric([], buckets, sum_value=spread.total)
    return family


"""The route of requests that no route is for; their paths are anybody's words."""
