"""Who enqueued what, and when: every job is moved to a list of its own the moment that it comes.

What counts is what Redis holds: a move is one step, so no job is overlooked, whatever is killed.
"""

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from bench.schedule.contestants import Contestant

LEDGER = "bench:ledger"
LOOK_EVERY_S = 0.01
PATIENCE_S = 0.2
# A job that comes this much before its second is counted for it: Celery beat is 10 ms early.
EARLY_S = 0.1


@dataclass(frozen=True)
class Arrival:
    """A job that was enqueued: at what time (of Unix), and for which tick if it says so."""

    at: float
    slot: float | None


class Watcher:
    """Empties the queue as workers would, and writes down each job."""

    def __init__(self, client: Redis, contestant: Contestant) -> None:
        self._client: Any = client
        self._contestant = contestant
        self._arrivals: list[Arrival] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def wait_for_first(self, timeout_s: float) -> Arrival:
        deadline = time.monotonic() + timeout_s
        while not self._arrivals:
            assert time.monotonic() < deadline, "nothing was enqueued"
            time.sleep(LOOK_EVERY_S)
        return self._arrivals[0]

    def close(self) -> list[Arrival]:
        """Stop; return all that has come."""
        self._over.set()
        self._thread.join()
        with self._client:
            self._catch_up()
        return self._arrivals

    def _watch(self) -> None:
        queue, end = self._contestant.queue, self._contestant.end
        while not self._over.is_set():
            try:
                self._catch_up()
                job = self._client.blmove(queue, LEDGER, PATIENCE_S, end, "RIGHT")
                if job is not None:
                    self._note(job)
            except (RedisError, OSError):
                self._client.connection_pool.disconnect()
                time.sleep(LOOK_EVERY_S)

    def _catch_up(self) -> None:
        """Note the jobs of moves that were not answered, because the server died or halted."""
        for job in self._client.lrange(LEDGER, len(self._arrivals), -1):
            self._note(job)

    def _note(self, job: bytes) -> None:
        self._arrivals.append(Arrival(time.time(), self._contestant.slot(job)))


@dataclass(frozen=True)
class Count:
    """What became of the ticks of a time."""

    expected: int
    enqueued: int  # ticks that have a job
    doubled: int  # jobs beyond the first of their tick
    late_s: Sequence[float]  # of the first job of each tick

    @property
    def missing(self) -> int:
        return self.expected - self.enqueued

    def late(self, percent: int) -> float:
        """The lateness that so many percent of the ticks do not exceed."""
        if percent == 100 or len(self.late_s) < 2:
            return max(self.late_s, default=math.nan)
        return quantiles(self.late_s, n=100, method="inclusive")[percent - 1]


def count(arrivals: Sequence[Arrival], seconds: int) -> Count:
    """Hold `arrivals` against a tick each second, for so long from the first one on.

    A job that does not say for which tick it is counts for the second in which it came; these
    seconds begin with the first job, so that an interval that begins anywhere is not late by that.
    """
    first = arrivals[0]
    start = first.at if first.slot is None else first.slot
    jobs: dict[int, list[float]] = {}
    for arrival in arrivals:
        tick = _tick(arrival, start)
        if 0 <= tick < seconds:
            jobs.setdefault(tick, []).append(arrival.at - start - tick)
    return Count(
        expected=seconds,
        enqueued=len(jobs),
        doubled=sum(len(lates) - 1 for lates in jobs.values()),
        late_s=[min(lates) for lates in jobs.values()],
    )


def _tick(arrival: Arrival, start: float) -> int:
    if arrival.slot is not None:
        return round(arrival.slot - start)
    return math.floor(arrival.at - start + EARLY_S)
