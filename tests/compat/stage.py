"""Where a scenario is played: a Redis, and a worker of the kind that is under test.

The workers run in a process of their own, so that their signals and limits are theirs alone.
Run as a program, this is that process: it plays one worker after the other, a line of JSON each.
"""

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import traceback

import rq
from rq.command import send_stop_execution_command, send_stop_job_command
from rq.serializers import resolve_serializer
from rq.utils import import_attribute

from jiffy import redis_io
from tests.compat import work
from tests.support.newcomer import PATIENCE_S, wait_until

_SETTINGS = {
    "JOBS_MODULES": "tests.compat",
    "SERIALIZERS": "json,pickle",
    "WEBHOOK_HOSTS": "127.0.0.1",
}
QUEUES = ("high", "default")


class WorkerProcess:
    """The process that plays the workers."""

    def __init__(self):
        self._start()

    def begin(self, **options):
        self._process.stdin.write(json.dumps(options) + "\n")
        self._process.stdin.flush()

    def wait(self):
        """Wait until the worker is done; a process that hangs is put down, and the next is new."""
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        if not readable:
            self.close(patience_s=0)
            self._start()
            raise AssertionError(f"the worker is not done after {PATIENCE_S} s")
        trouble = json.loads(self._process.stdout.readline())
        assert not trouble, trouble

    def close(self, patience_s=PATIENCE_S):
        with self._process:  # closes the pipes and waits
            self._process.stdin.close()
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.compat.stage"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | _SETTINGS,
        )  # fmt: skip


class Stage:
    """What a scenario may use.  Jobs travel as JSON unless it says `serializer="pickle"`."""

    def __init__(self, redis, process, worker):
        self.redis = redis
        self._process = process
        self._worker = worker

    def queue(self, name="default", serializer="json", **options):
        return rq.Queue(
            name, connection=self.redis, serializer=resolve_serializer(serializer), **options
        )

    def enqueue(self, func, *args, job_id="one", serializer="json", **options):
        return self.queue(serializer=serializer).enqueue(
            func, args=args, job_id=job_id, description="what it is about", **options
        )

    def work(self, **options):
        """Run one worker until the queues are empty."""
        self.begin(**options)
        self._process.wait()

    def begin(self, **options):
        self._process.begin(worker=self._worker, **options)

    def retire_when_begun(self, job, *, execution=False):
        """Stop `job` by RQ's command once it says that it runs, and let the worker end.

        With `execution`, by the command that names its execution.
        """
        try:
            wait_until(lambda: self.redis.lpop(work.CALLS))
            if execution:
                [running] = job.get_executions()
                send_stop_execution_command(self.redis, job.id, running.id)
            else:
                send_stop_job_command(self.redis, job.id, serializer=job.serializer)
        finally:
            self._process.wait()

    def calls(self):
        return [raw.decode() for raw in self.redis.lrange(work.CALLS, 0, -1)]


def play(
    worker, queues=QUEUES, serializer="json", job_class="rq.job.Job", handlers=(), max_jobs=None,
    with_scheduler=False, **options,
):  # fmt: skip
    """Run a `worker`, named by its class's path, until its queues are empty."""
    redis = redis_io.connect("worker", answer_timeout_s=None)
    made = import_attribute(worker)(
        list(queues),
        name="worker-1",
        connection=redis,
        serializer=serializer,
        job_class=import_attribute(job_class),
        exception_handlers=[import_attribute(path) for path in handlers],
        **options,
    )
    made.work(
        burst=True, logging_level="CRITICAL", max_jobs=max_jobs, with_scheduler=with_scheduler
    )


def main():
    # What a worker prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.disable()
    for line in sys.stdin:
        trouble = None
        try:
            with contextlib.suppress(SystemExit):
                play(**json.loads(line))
        except Exception:  # noqa: BLE001 - the test tells of it, whatever it is
            trouble = traceback.format_exc()
        answers.write(json.dumps(trouble) + "\n")


if __name__ == "__main__":
    main()
