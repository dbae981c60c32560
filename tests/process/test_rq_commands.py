"""RQ's own commands start our workers: they obey JOBS_MODULES and SERIALIZERS all the same."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import rq

from jiffy import keys
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.support.newcomer import CHECKOUT
from tests.support.worker_support import reason, registered, said, status

pytestmark = pytest.mark.slow

COMMANDS = {
    "worker": ("worker", "-w", "jiffy.Worker", "--burst"),
    "worker with scheduler": ("worker", "-w", "jiffy.Worker", "--burst", "--with-scheduler"),
    "simple worker": ("worker", "-w", "jiffy.SimpleWorker", "--burst", "--with-scheduler"),
    "worker pool": ("worker-pool", "-w", "jiffy.Worker", "--burst"),
}


class Trap:
    """Once unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(params=COMMANDS.values(), ids=COMMANDS)
def run(redis, request):
    """Run one of RQ's commands until the queue is empty, with these settings; return its log."""

    def run(**environ):
        url = os.environ["REDIS_URL"]
        done = subprocess.run(
            [Path(sys.executable).with_name("rq"), *request.param, "--url", url, "default"],
            cwd=CHECKOUT, env=os.environ | environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def plant(redis, job_id, **fields):
    """What anybody can write who reaches Redis."""
    redis.hset(keys.job(job_id), mapping={"status": "queued", "origin": "default"} | fields)


def test_a_planted_pickle_is_not_executed(run, redis, tmp_path):
    trap, data = Trap(tmp_path / "mark"), json.dumps(["tests.jobs.worker.nothing", None, [], {}])
    call = pickle.dumps(("tests.jobs.worker.nothing", None, (trap,), {}))
    trapped = {"meta": pickle.dumps(trap), "result": pickle.dumps(trap)}
    plant(redis, "pickled", data=call, **trapped)
    plant(redis, "json", data=data, **trapped)
    plant(redis, "ways-of-rq", data=data, webhooks="[]", dependency_ids="[]", **trapped)
    redis.rpush(keys.queue("default"), "pickled", "json", "ways-of-rq")
    waits = {"status": "deferred", "dependency_ids": '["ways-of-rq"]'}
    plant(redis, "dependent", data=call, result=pickle.dumps(trap), **waits)
    redis.zadd(f"{keys.RQ}deferred:default", {"dependent": 1})
    redis.sadd(f"{keys.RQ}job:ways-of-rq:dependents", "dependent")
    plant(redis, "due", data=call, status="scheduled", result=pickle.dumps(trap))
    redis.zadd(f"{keys.RQ}scheduled:default", {"due": 1})
    plant(redis, "abandoned", data=call, **trapped | {"status": "started"})
    redis.zadd(f"{keys.RQ}wip:default", {"abandoned:execution": 1})
    redis.sadd(keys.QUEUES, keys.queue("default"))
    log = run(JOBS_MODULES="tests.jobs.worker")

    assert not (tmp_path / "mark").exists(), log
    assert "SERIALIZERS=json,pickle" in reason(redis, "pickled")
    assert status(redis, "json") == status(redis, "ways-of-rq") == "finished"
    assert {"abandoned", "pickled"} <= set(registered(redis, "failed"))


def test_pickles_are_run_where_the_setting_says_so(run, redis):
    job = rq.Queue(connection=redis).enqueue(worker_jobs.collect, 1, 2)
    run(JOBS_MODULES="tests.jobs.worker", SERIALIZERS="json,pickle")

    assert job.return_value() == {1, 2}


def test_what_is_outside_of_the_allowed_modules_is_not_run(run, redis):
    queue = Queue("default", connection=redis)
    queue.enqueue("tests.jobs.outside.leave_mark", job_id="outside")
    queue.enqueue("jobs.numbers.add", 2, 3, job_id="inside")
    log = run()

    assert "worker.started" in log
    assert "job.finished job=inside" in log
    assert said(redis) == []
    assert "'tests.jobs.outside.leave_mark' is not under jobs." in reason(redis, "outside")
    assert status(redis, "inside") == "finished"


def test_nor_is_a_callback_from_outside(run, redis):
    callback = rq.Callback("tests.jobs.outside.leave_mark")
    queue = Queue("default", connection=redis)
    queue.enqueue("jobs.numbers.add", 2, 3, on_success=callback, job_id="called-back")
    run()

    assert said(redis) == []
    assert "'tests.jobs.outside.leave_mark' is not under jobs." in reason(redis, "called-back")


def test_a_setting_that_cannot_be_used_stops_it(redis):
    done = subprocess.run(
        [Path(sys.executable).with_name("rq"), "worker", "-w", "jiffy.Worker", "--burst"],
        cwd=CHECKOUT, env=os.environ | {"SERIALIZERS": "yaml"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "SERIALIZERS is 'yaml'; it must be json or json,pickle." in done.stderr
