"""Prometheus metrics of the lease and of the managers of a database."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manager.runtime.lease_keeper import INGEST, LEADER, STANDBY, LeaseKeeper


class LeaseCollector(Collector):
    """Role, epoch, readings of the lease, and the number of managers by role, at each scrape.

    Args:
        keeper: keeps the lease.
    """

    def __init__(self, keeper: LeaseKeeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics; safe from any thread."""
        keeper, group = self._keeper, self._keeper.group
        role = LEADER if keeper.leads() else INGEST if keeper.role == INGEST else STANDBY
        own = GaugeMetricFamily("panguard_manager_role", "1 for the role of this manager.", labels=["role"])
        for name in (LEADER, STANDBY, INGEST):
            own.add_metric([name], float(name == role))
        yield own
        managers = GaugeMetricFamily("panguard_managers", "Live managers of the database by role.", labels=["role"])
        for name, number in Counter(member.role for member in (group.members if group else ())).items():
            managers.add_metric([name], number)
        yield managers
        if group is not None:
            yield GaugeMetricFamily("panguard_lease_epoch", "Number of the leadership.", group.row.epoch)
            yield GaugeMetricFamily(
                "panguard_lease_since_seconds", "Begin of the leadership, in seconds since 1970.", group.since
            )
        behind = keeper.behind()
        if behind is not None:
            yield GaugeMetricFamily("panguard_lease_read_age_seconds", "Age of the last reading of the lease.", behind)
