"""Chains and groups, by real workers that are killed."""

import os
import subprocess
import sys

import pytest
from rq.command import send_stop_job_command

import jiffy
from jiffy import Retry, actions, keys, part, result, wait
from jiffy.producer.enqueue import Job
from tests.jobs import worker as worker_jobs
from tests.support.cutting import Cutter
from tests.support.join_support import left, reason, status, statuses
from tests.support.newcomer import CHECKOUT
from tests.support.worker_processes import begin, let_go_on, until_said
from tests.support.worker_support import registered, said

pytestmark = pytest.mark.slow

NOBODYS = "nobodys"  # a queue that no worker looks at


@pytest.fixture(autouse=True)
def allowed(environ):
    environ(JOBS_MODULES="jobs,tests")


def sum_up(name):
    return part(worker_jobs.sum_up, name, result)


def test_of_many_groups_at_ten_workers_each_is_summed_up_once(start_worker, redis):
    worker = start_worker("-n", "10")
    names = [f"group-{number}" for number in range(200)]
    for name in names:
        jiffy.enqueue.group([part(worker_jobs.nothing) for _ in range(5)], then=sum_up(name))
    worker.until(lambda: len(registered(redis, "finished")) == 1200)

    assert sorted(said(redis)) == sorted(f"{name}: {' '.join(['finished'] * 5)}" for name in names)
    assert (registered(redis, "deferred"), left(redis)) == ([], [])


def test_of_many_groups_whose_parts_kill_and_fail_each_is_summed_up_once(start_worker, redis):
    worker = start_worker("-n", "4")
    names = [f"group-{number}" for number in range(10)]
    parts = [
        part(worker_jobs.nothing),
        part(worker_jobs.fail).options(retry=Retry(1, pause=0)),
        part(worker_jobs.kill_itself),
        part(worker_jobs.fail_until_the_last_try).options(retry=Retry(1, pause=0)),
    ]
    for name in names:
        jiffy.enqueue.group(parts, then=sum_up(name))
    worker.until(lambda: len(said(redis)) >= 10 and not redis.zcard(f"{keys.RQ}wip:default"))

    assert sorted(said(redis)) == [f"{name}: finished failed failed finished" for name in names]


def test_a_group_is_summed_up_whatever_ends_its_parts(start_worker, redis):
    ended = part(worker_jobs.nothing).options(queue=NOBODYS)
    parts = [
        part(worker_jobs.wait_for, "a"), ended, ended, ended.options(ttl=1),
        part(worker_jobs.nothing),
    ]  # fmt: skip
    group = jiffy.enqueue.group(parts, then=sum_up("group"))
    worker = start_worker("-n", "2")
    begin(worker, redis, "a")
    actions.cancel(group.jobs[1].id)
    Job.fetch(group.jobs[2].id, connection=redis).delete()
    send_stop_job_command(redis, group.jobs[0].id)
    until_said(worker, redis, "group: stopped canceled gone gone finished")

    assert said(redis).count("group: stopped canceled gone gone finished") == 1


def test_a_chain_goes_on_through_the_deaths_of_its_workers(start_worker, redis):
    names = ["a", "b", "c", "d", "e"]
    jobs = jiffy.enqueue.chain(*(part(worker_jobs.wait_for, name) for name in names))
    worker = start_worker("-n", "2")
    for number, name in enumerate(names):
        begin(worker, redis, name)
        worker.kill_children()
        begin(worker, redis, name, count=2)
        if number == 2:
            worker.end()  # the whole machine: after its lease another has the job
            worker = start_worker("-n", "2")
            begin(worker, redis, name, count=3)
        let_go_on(redis, name)

    assert wait(jobs[-1], timeout="60s") == "e"
    ended = [text for text in said(redis) if text.endswith("ended")]
    assert ended == [f"{name} ended" for name in names]
    assert (statuses(redis, jobs), left(redis)) == (["finished"] * 5, [])


def test_a_chain_whose_part_kills_its_workers_ends_with_the_reason(start_worker, redis):
    jobs = jiffy.enqueue.chain(part(worker_jobs.kill_itself), part(worker_jobs.nothing))
    worker = start_worker()
    worker.until(lambda: status(redis, jobs[1]) == "canceled")

    assert reason(redis, jobs[1]).startswith(f"A part before it, {jobs[0].id}, failed: its worker")


def test_a_chain_whose_part_is_canceled_elsewhere_ends_within_seconds(start_worker, redis):
    jobs = jiffy.enqueue.chain(
        part(worker_jobs.nothing).options(queue=NOBODYS), part(worker_jobs.nothing)
    )
    worker = start_worker()
    Job.fetch(jobs[0].id, connection=redis).cancel()
    worker.until(lambda: status(redis, jobs[1]) == "canceled")

    assert reason(redis, jobs[1]) == f"A part before it, {jobs[0].id}, was canceled"


PRODUCER = """
import jiffy
from jiffy import part, result
from tests.jobs import worker as worker_jobs
parts = [part(worker_jobs.nothing), part(worker_jobs.add, 1, 1), part(worker_jobs.nothing)]
def write():
    jiffy.enqueue.group(parts, then=part(worker_jobs.sum_up, "group", result))
write()  # from here on it knows Redis, and Redis knows the scripts
input("ready\\n")
write()
"""


@pytest.fixture
def producer(redis, redis_address, environ):
    """A process that is about to write a group, and its line to Redis."""
    with Cutter(redis_address) as cutter:
        process = subprocess.Popen(
            [sys.executable, "-c", PRODUCER],
            cwd=CHECKOUT, env=os.environ | {"REDIS_URL": cutter.url}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        with process:
            assert process.stdout.readline() == "ready\n"
            redis.flushdb()
            yield process, cutter
            process.kill()


# It says five things: who waits, three times a part, that this was all.
@pytest.mark.parametrize("passing", [1, 2, 3, 4])
def test_a_producer_killed_as_it_writes_leaves_nothing_waiting(
    start_worker, redis, producer, passing
):
    process, cutter = producer
    cutter.cut_once("asked", 0, process.kill, passing=passing)
    process.communicate("\n")
    [then_id] = redis.zrange(f"{keys.RQ}deferred:default", 0, -1)
    then = Job(then_id.decode(), redis)
    worker = start_worker()
    worker.until(lambda: len(registered(redis, "finished")) == passing - 1)
    redis.zadd(keys.pending(then.id), {"": -1})  # its time was over long ago
    worker.until(lambda: status(redis, then) == "canceled")

    assert reason(redis, then) == "Its producer ended before all parts were written."
    assert (said(redis), left(redis)) == ([], [])
