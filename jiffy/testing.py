"""For the tests of your own project.  In conftest.py: `pytest_plugins = ["jiffy.testing"]`.

`inline`: what is enqueued runs at once.  `queued`: it waits, to be looked at and to be run on
demand.  Both on a private Redis that is empty at the start of each test, with a real worker: what
would fail in production fails here.  `check_schedule` needs none of this.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from jiffy import SimpleWorker, clock, keys, redis_io
from jiffy import simulate as _simulate
from jiffy.dev import redis_server
from jiffy.errors import InvalidSchedule
from jiffy.producer import enqueue as enqueueing
from jiffy.producer import payload, workflows
from jiffy.producer.enqueue import Job, Queue
from jiffy.settings import settings

__all__ = ["check_schedule", "inline", "private_redis", "queued"]


@pytest.fixture(scope="session")
def private_redis() -> Iterator[str]:
    """The address of a Redis that only the tests of this process use."""
    with tempfile.TemporaryDirectory(prefix="jiffy-test-") as home:
        address = redis_server.start(Path(home), keep=False)
        yield address
        redis_server.stop(address)


@pytest.fixture
def queued(private_redis: str) -> Iterator["Queued"]:
    """What was enqueued: `assert queued.has(images.resize, "a.jpg", 200)`; `queued.run()`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_URL", private_redis)
        _forget_the_old_address()
        redis = redis_io.shared()
        redis.flushall()
        yield Queued(redis)
        redis.close()
    _forget_the_old_address()


@pytest.fixture
def inline(queued: "Queued", monkeypatch: pytest.MonkeyPatch) -> "Queued":
    """What is enqueued is run by the time `enqueue` returns, which raises nothing if it fails."""
    ends = (enqueueing, "put"), (enqueueing, "write"), (workflows, "chain"), (workflows, "group")
    for module, name in ends:
        monkeypatch.setattr(module, name, _then(getattr(module, name), queued.run))
    return queued


def check_schedule(schedule: Iterable[object]) -> None:
    """Fail the test with a line for each mistake in `schedule`, the table of scheduler.py."""
    now = clock.now()
    try:
        _simulate(schedule, now, now)
    except InvalidSchedule as error:
        pytest.fail(str(error), pytrace=False)


class Queued:
    """The jobs of a test."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._is_running = False

    @property
    def jobs(self) -> list[Job]:
        """Those that wait, queue by queue, those for later, and those that wait for others or for a
        slot of their rate limit.
        """
        names = sorted(queue.name for queue in Queue.all(self.redis))
        waiting: list[Any] = [self.redis.lrange(keys.queue(name), 0, -1) for name in names]
        for registry in (keys.REGISTRIES["scheduled"], keys.REGISTRIES["deferred"]):
            waiting += [self.redis.zrange(registry + name, 0, -1) for name in names]
        limited = self.redis.scan_iter(f"{keys.RQ}rl:*:rate_limited")
        waiting += [self.redis.zrange(key, 0, -1) for key in limited]
        ids = [job_id.decode() for some in waiting for job_id in some]
        found = Job.fetch_many(ids, self.redis)
        return [job for job in found if isinstance(job, Job)]

    def has(self, func: Callable[..., object], /, *args: Any, **kwargs: Any) -> bool:
        """Whether this very call waits, however its arguments were written."""
        target = payload.target(func)
        call = target.canonical(target.call(args, kwargs).data)
        waiting = (job for job in self.jobs if job.func_name == target.path)
        return any(
            target.canonical(json.dumps([job.func_name, None, job.args, job.kwargs])) == call
            for job in waiting
        )

    def run(self) -> list[Job]:
        """Run all that waits and is not for later, and all that it enqueues; return what waited."""
        if self._is_running:  # a job has enqueued this one: it is run after that
            return []
        ran = [job for job in self.jobs if job.get_status(refresh=False) == "queued"]
        self._is_running = True
        try:
            names = sorted(queue.name for queue in Queue.all(self.redis)) or ["default"]
            worker = SimpleWorker(names, connection=self.redis)
            worker.work(burst=True, logging_level="WARNING")
        finally:
            self._is_running = False
        for job in ran:
            if Job.exists(job.id, self.redis):
                job.refresh()  # type: ignore[no-untyped-call]
        return ran


def _then(first: Callable[..., Any], second: Callable[[], object]) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> Any:
        result = first(*args, **kwargs)
        second()
        return result

    return both


def _forget_the_old_address() -> None:
    settings.cache_clear()
    redis_io.shared.cache_clear()
