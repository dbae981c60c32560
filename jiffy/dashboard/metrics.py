"""All metrics in Prometheus' text format, read from Redis at each request.

Counted at most once a second, with what the pages show.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import Redis

from jiffy import clock
from jiffy.control import entries, read
from jiffy.dashboard.frame import census

__all__ = ["CONTENT_TYPE", "exposition"]


def exposition(redis: Redis) -> bytes:
    """The text of the answer.  Raises redis-py's errors."""
    registry = CollectorRegistry()
    registry.register(_Read(redis))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def describe(self) -> list[Metric]:
        """Nothing: otherwise all would be read twice."""
        return []

    def collect(self) -> Iterator[Metric]:
        seen, schedule = census(), entries.glance(self._redis)
        jobs = GaugeMetricFamily("jiffy_jobs", "Jobs that Redis holds.", labels=["queue", "state"])
        for queue in seen.queues:
            for state, count in queue.counts.items():
                jobs.add_metric([queue.name, state], count)
        yield jobs
        waited = {queue.name: queue.waited_s for queue in seen.queues}
        about = "How long the job at the front of the queue has waited."
        yield _gauge("jiffy_oldest_job_seconds", about, "queue", waited)
        states = Counter(busy=0, idle=0)  # both are there without any worker, too
        states.update(seen.states)
        yield _gauge("jiffy_workers", "Workers that are alive.", "state", states)
        is_up = schedule.scheduler == "ok"
        yield GaugeMetricFamily("jiffy_scheduler_up", "Whether a scheduler is alive.", is_up)
        about = "Entries with a run to come."
        yield GaugeMetricFamily("jiffy_schedule_entries", about, schedule.entries)
        if schedule.next_at is not None:
            due_s = (schedule.next_at - clock.now()).total_seconds()
            about = "Seconds until the next run is due; negative if it is late."
            yield GaugeMetricFamily("jiffy_schedule_next_due_seconds", about, due_s)
        runs = CounterMetricFamily("jiffy_ticks", "Runs of the schedule.", labels=["outcome"])
        for outcome, count in read.run_counts(self._redis).items():
            runs.add_metric([outcome], count)
        yield runs


def _gauge(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for labelled, value in values.items():
        family.add_metric([labelled], value)
    return family
