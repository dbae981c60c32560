"""A program that enqueues, and says it again until Redis has confirmed it."""

import os
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from bench.chaos.ledger import QUEUE, Expected
from jiffy import redis_io
from jiffy.errors import DuplicateJob
from jiffy.producer.enqueue import enqueue
from jiffy.settings import settings

JOBS = "bench.chaos.jobs"
KEPT_S = 86400
TRY_AGAIN_AFTER_S = 0.1


def insist(send: Callable[[], object]) -> None:
    """Repeat what enqueues jobs under ids, until it is certain that they are there."""
    while True:
        try:
            send()
            return
        except (DuplicateJob, DuplicateJobError):  # it was heard the first time
            return
        except (RedisError, OSError):
            time.sleep(TRY_AGAIN_AFTER_S)


class Producer:
    """Enqueues as users of ours do, or as RQ's do.  One at a time: it sets REDIS_URL."""

    def __init__(self, worker: str, url: str) -> None:
        os.environ.update({"REDIS_URL": url, "JOBS_MODULES": JOBS})
        settings.cache_clear()
        redis_io.shared.cache_clear()
        self.is_ours = worker == "jiffy"
        self._put: Callable[..., object] = self._as_ours if self.is_ours else self.as_rqs
        self.expected: dict[str, Expected] = {}

    def expect(self, *expected: Expected) -> None:
        self.expected |= {each.job_id: each for each in expected}

    def enqueue(self, function: str, *args: Any, job_id: str, timeout_s: int = 60) -> None:
        """Put a job on the queue, under an id, so that saying it twice is harmless."""
        insist(lambda: self._put(function, args, job_id, timeout_s))
        self.expect(Expected(job_id))

    def as_rqs(self, function: str, args: tuple[Any, ...], job_id: str, timeout_s: int) -> None:
        """Nobody asks here whether the function exists."""
        self._queue().enqueue(
            _path(function), args=(job_id, *args), job_id=job_id, job_timeout=timeout_s,
            result_ttl=KEPT_S, unique=True,
        )  # fmt: skip

    def write_unqueued(self, function: str, *args: Any, job_id: str) -> Job:
        """Write a job that no queue names yet."""
        job = self._queue().create_job(_path(function), args=(job_id, *args), job_id=job_id)
        job.save()
        self.expect(Expected(job_id))
        return job

    def _as_ours(self, function: str, args: tuple[Any, ...], job_id: str, timeout_s: int) -> None:
        put = enqueue.options(queue=QUEUE, job_id=job_id, timeout=timeout_s, result_ttl=KEPT_S)
        put.by_path(_path(function), job_id, *args)

    def _queue(self) -> Queue:
        return Queue(QUEUE, connection=redis_io.shared(), serializer=JSONSerializer)


def _path(function: str) -> str:
    return f"{JOBS}.{function}"
