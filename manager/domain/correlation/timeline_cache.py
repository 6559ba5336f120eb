"""Bounded LRU cache of timelines; records the spans that are unknown after evictions."""

from collections import OrderedDict
from collections.abc import Iterator
from math import inf, nextafter

from manager.domain.correlation.incidents import Incident
from manager.domain.correlation.indicators import Indicator
from manager.domain.correlation.reports import MEMORY
from manager.domain.correlation.timeline import Timeline


class TimelineCache:
    """Timelines by indicator, in two groups: timelines with an open incident, and watched timelines without one.

    The two are bounded apart, so that a flood of addresses seen once cannot evict open incidents.

    Args:
        max_watched: bound of indicators without an open incident.
        max_open: bound of indicators with one.
    """

    def __init__(self, max_watched: int, max_open: int) -> None:
        self._max_watched = max_watched
        self._max_open = max_open
        self._watched: OrderedDict[Indicator, Timeline] = OrderedDict()
        self._open: OrderedDict[Indicator, Timeline] = OrderedDict()
        self._forgotten = -inf
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._watched) + len(self._open)

    @property
    def open_count(self) -> int:
        """Number of indicators with an open incident."""
        return len(self._open)

    def open(self) -> Iterator[Timeline]:
        """Yield the timelines with an open incident."""
        yield from self._open.values()

    def get(self, indicator: Indicator) -> Timeline | None:
        """Return a timeline without marking it as used."""
        return self._open.get(indicator) or self._watched.get(indicator)

    def touch(self, indicator: Indicator, threshold: int, received: float, now: float) -> Timeline:
        """Return an indicator's timeline, a new one if it has none, and mark it as used last."""
        group = self._open
        timeline = group.get(indicator)
        if timeline is None:
            group = self._watched
            timeline = group.get(indicator)
        if timeline is None:
            # Not in memory: not reported within the last two windows, unless it was evicted since.
            timeline = group[indicator] = Timeline(indicator, threshold, self.known_from(now))
        else:
            group.move_to_end(indicator)
        if received > timeline.touched:
            timeline.touched = received
        return timeline

    def known_from(self, now: float) -> float:
        """Return the event time from which on all reports of an indicator are in memory if it has no timeline."""
        return max(now - MEMORY, self._forgotten)

    def opened(self, indicator: Indicator, timeline: Timeline) -> None:
        """Add an open incident to an indicator's timeline, which is kept while it has one."""
        timeline.open_incidents += 1
        if self._watched.pop(indicator, None) is not None:
            self._open[indicator] = timeline

    def closed(self, indicator: Indicator) -> Timeline:
        """Remove a closed incident from an indicator's timeline, which may be dropped once it has none; return it."""
        timeline = self._open[indicator]
        timeline.open_incidents -= 1
        if not timeline.open_incidents:
            self._watched[indicator] = self._open.pop(indicator)
        return timeline

    def forget_until(self, time: float) -> None:
        """Note that nothing up to a time is in memory: what is needed of it is loaded."""
        self._forgotten = max(self._forgotten, nextafter(time, inf))

    def shift(self, seconds: float) -> list[Incident]:
        """Move all timelines by a step of the manager's clock; return their incidents."""
        self._forgotten += seconds
        incidents: list[Incident] = []
        for timeline in (*self._open.values(), *self._watched.values()):
            timeline.shift(seconds)
            incidents += [run.incident for run in timeline.runs if run.incident is not None]
        for incident in incidents:
            incident.shift(seconds)
        return incidents

    def drop_idle(self, now: float) -> None:
        """Drop timelines that no report on time can reach any more."""
        while self._watched:
            indicator, timeline = next(iter(self._watched.items()))
            if now - timeline.touched <= MEMORY:
                return
            del self._watched[indicator]

    def evict_watched(self) -> None:
        """Evict watched timelines over the bound, least recently used first."""
        while len(self._watched) > self._max_watched:
            _, timeline = self._watched.popitem(last=False)
            self._evicted(timeline)

    def evict_open(self) -> Iterator[Timeline]:
        """Evict and yield timelines with open incidents over the bound, least recently used first."""
        while len(self._open) > self._max_open:
            _, timeline = self._open.popitem(last=False)
            self._evicted(timeline)
            yield timeline

    def _evicted(self, timeline: Timeline) -> None:
        self.evicted += 1
        # A new timeline is known only from here on: it may have been the evicted one.
        self._forgotten = max(self._forgotten, nextafter(timeline.touched, inf))
