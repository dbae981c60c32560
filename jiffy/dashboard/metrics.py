"""All that there is to measure, in Prometheus' text format; read from Redis when it is asked for.

Bounded as the first page is: a hundred queues, a hundred workers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import Redis

from jiffy import clock, entries, keys
from jiffy.dashboard import data, overview
from jiffy.dashboard.overview import Overview

_TICKS = ("enqueued", "skipped", "missed")


def text(redis: Redis) -> bytes:
    """The whole of it.  Raises redis-py's errors."""
    registry = CollectorRegistry()
    registry.register(_Read(redis))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def describe(self) -> list[Metric]:
        """Nothing: else all would be read twice."""
        return []

    def collect(self) -> Iterator[Metric]:
        seen = overview.read(self._redis)
        yield _jobs(seen)
        yield _oldest(self._redis, [queue.name for queue in seen.queues])
        states = Counter(busy=0, idle=0)  # where there are none, that is to be seen
        states.update(worker.state for worker in seen.workers)
        yield _by("jiffy_workers", "Workers that are alive.", "state", states)
        yield from _schedule(entries.glance(self._redis))
        yield _ticks(self._redis)


def _jobs(seen: Overview) -> Metric:
    jobs = GaugeMetricFamily("jiffy_jobs", "Jobs that Redis holds.", labels=["queue", "state"])
    for queue in seen.queues:
        for state, count in queue.counts.items():
            jobs.add_metric([queue.name, state], count)
    return jobs


def _oldest(redis: Redis, queues: Sequence[str]) -> Metric:
    """How long the job at the front of each queue has waited; 0 where none does."""
    with redis.pipeline(transaction=False) as pipe:
        for name in queues:
            pipe.lindex(keys.queue(name), 0)
        ids = pipe.execute(raise_on_error=False)
    first = {name: raw.decode() for name, raw in zip(queues, ids, strict=True) if _is_id(raw)}
    jobs = data.read_jobs(redis, list(first.values()))
    waited = {
        name: (jobs[first[name]].waited_s if first.get(name) in jobs else None) or 0.0
        for name in queues
    }
    said = "How long the job at the front of the queue has waited."
    return _by("jiffy_oldest_job_seconds", said, "queue", waited)


def _is_id(raw: Any) -> bool:
    return isinstance(raw, bytes)  # else there is none, or the key is of another type


def _schedule(glance: entries.Glance) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "jiffy_scheduler_up", "Whether a scheduler leads.", glance.scheduler == "ok"
    )
    yield GaugeMetricFamily("jiffy_schedule_entries", "Entries that are to come.", glance.entries)
    if glance.next_at is not None:
        due_s = (glance.next_at - clock.now()).total_seconds()
        said = "Until the next tick is due; below 0 where it is late."
        yield GaugeMetricFamily("jiffy_schedule_next_due_seconds", said, due_s)


def _ticks(redis: Redis) -> Metric:
    counts = redis.hmget(keys.TICK_COUNTS, _TICKS)
    ticks = CounterMetricFamily("jiffy_ticks", "Ticks of the schedule.", labels=["outcome"])
    for outcome, count in zip(_TICKS, counts, strict=True):
        ticks.add_metric([outcome], int(count or 0))
    return ticks


def _by(name: str, said: str, label: str, values: dict[str, Any] | Counter[str]) -> Metric:
    family = GaugeMetricFamily(name, said, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family
