"""What a table would do, worked out without Redis and without waiting."""

import heapq
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import NamedTuple

from jiffy.scheduler import table, zones
from jiffy.scheduler.entry import Entry


class SimulatedTick(NamedTuple):
    """A job to come: enqueued at `due`, which is its `slot` and what `jitter` adds; both in UTC."""

    due: datetime
    slot: datetime
    name: str  # of its entry
    function: str  # its path, such as "jobs.reports.weekly"
    queue: str


def simulate(schedule: Iterable[object], start: datetime, end: datetime) -> Iterator[SimulatedTick]:
    """The ticks of `schedule` from `start` until before `end`, in the order of their times.

    It is as if the table were declared at `start` and a scheduler ran all the time: `repeat` counts
    from there, and none is missed, paused or overlaps another.  They come one by one, as a table
    may make millions.  Raises InvalidSchedule, with all mistakes of the table, and InvalidValue for
    a `start` or an `end` without a time zone.
    """
    first, last = zones.in_utc(start, "start"), zones.in_utc(end, "end")
    entries = table.right(schedule)
    return heapq.merge(*(_ticks(entry, first, last) for entry in entries))


def _ticks(entry: Entry, start: datetime, end: datetime) -> Iterator[SimulatedTick]:
    function, queue = str(entry.job.func_name), entry.job.origin
    slots = takewhile(end.__gt__, entry.timing.times_after(start - timedelta.resolution))
    for slot in islice(slots, entry.policy.repeat):
        due = entry.policy.due(entry.id, slot)
        yield SimulatedTick(due, slot, entry.name, function, queue)
