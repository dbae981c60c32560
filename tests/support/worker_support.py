"""What the tests of the worker share: jobs by the dozen, the steps of a worker, what they leave."""

from contextlib import suppress

from redis.exceptions import ResponseError
from rq.job import Dependency
from rq.results import Result

import jiffy
from jiffy import actions, clock, keys, rq_compat
from jiffy.errors import NotThisState
from jiffy.producer.enqueue import Job, Queue
from jiffy.redis_io import Link
from jiffy.worker import recovery, upkeep
from jiffy.worker.child import Child, RetireWhen
from jiffy.worker.child_process import ChildProcess
from jiffy.worker.claim import Claimer, Pace
from jiffy.worker.finish import Outcome, finish_command, plan_for
from jiffy.worker.recovery import Death
from jiffy.worker.run import Runner
from jiffy.worker.shared_memory import Board
from tests.jobs import worker as worker_jobs

RESULT_TTL_S = 500
WIP = keys.REGISTRIES["started"] + "default"


def enqueue(redis, count=1, func=worker_jobs.nothing, *args, queue="default", **options):
    """Put `count` jobs on a queue; return their ids, "default-0", "default-1" …"""
    ids = [f"{queue}-{number}" for number in range(count)]
    for job_id in ids:
        Queue(queue, connection=redis).enqueue(func, args=args, job_id=job_id, **options)
    return ids


def depend(redis, parent, count, **dependency):
    """Give a job so many dependents, in RQ's way, without asking RQ for each of them."""
    first = Queue("default", connection=redis).enqueue(
        worker_jobs.nothing, job_id="dependent-0", depends_on=Dependency([parent], **dependency)
    )
    fields, pipe = redis.hgetall(first.key), redis.pipeline(transaction=False)
    for number in range(1, count):
        job_id = f"dependent-{number}"
        pipe.hset(keys.job(job_id), mapping=fields)
        pipe.sadd(parent.dependents_key, job_id)
        pipe.sadd(f"{keys.RQ}job::{job_id}:dependencies", parent.id)
        pipe.zadd(keys.REGISTRIES["deferred"] + "default", {job_id: 1})
    pipe.execute()


def claimer(redis, name="worker-1", queues=("default",), **options):
    """What claims jobs for a worker with that name."""
    return Claimer(Link(redis), name, queues, RESULT_TTL_S, **options)


def claim(redis, want=10, **options):
    """Claim jobs as a worker that has just started."""
    return claimer(redis, **options).claim(want).jobs


def outcome(job, what="finished", **fields):
    """What became of a claimed job."""
    now_s = clock.wall()
    return Outcome(job, "tests.jobs.worker.nothing", now_s, now_s, what, **fields)


def finish(redis, job, what="finished", worker="worker-1", **fields):
    """Write what became of a claimed job; return how often that counted: once, or not at all."""
    plan = plan_for(outcome(job, what, **fields))
    (counted,) = Link(redis).exchange(finish_command(worker, plan))
    return counted


def finish_together(redis, jobs, what="finished", **fields):
    """Write what became of claimed jobs in one step, as that of a batch is."""
    plans = b",".join(plan_for(outcome(job, what, **fields)) for job in jobs)
    Link(redis).exchange(finish_command("worker-1", plans))


def child(redis, board=None, retire_when=None, name="worker-1", queues=("default",)):
    """A child's loop in this process, as `jiffy.Worker` runs it in one of its own."""
    worker = rq_worker(redis, name, queues)
    worker.death_penalty_class = rq_compat.NoPenalty
    runner = Runner(worker, Link(redis), board or Board(), ())
    # Threads and files of the tests come and go here, and no supervisor replaces this process.
    runner.is_watched = False
    retire_when = retire_when or RetireWhen(burst=True)
    return Child(claimer(redis, name, queues), runner, retire_when, Pace(), lambda: None)


def work_one(redis):
    """Claim, run and finish one job."""
    assert child(redis, retire_when=RetireWhen(burst=True, max_jobs=1)).work() == 1


def ids_of(claimed):
    return [job.job_id for job in claimed]


def rq_worker(redis, name="worker-1", queues=("default",)):
    """What a worker is to RQ."""
    return jiffy.SimpleWorker(list(queues), name, connection=redis)


def child_process(redis, work=lambda *_: 0, *board, name="worker-1", **options):
    """A child of a worker, which does this work."""
    worker = jiffy.Worker(["default"], name, connection=redis)
    return ChildProcess(worker, work, *board, **options)


CAUSE = "signal 11 (SIGSEGV)"


def die(redis, ran=None, **fields):
    """Let worker-1 die while it runs a job, or none."""
    death = {"worker": "worker-1", "cause": CAUSE, "execution": ran.execution if ran else ""}
    if fields.get("is_gone"):
        with suppress(ResponseError):  # a full Redis, or a key that holds something else
            redis.zadd(keys.LEASES, {"worker-1": 1}, xx=True)
    recovery.recover(Link(redis), Death(**death | fields))


def due(redis, most=1000, queues=("default",)):
    """What each supervisor does once a second; return how many moved, and the ids it canceled."""
    moved, canceled, _ = Link(redis).run("due", [*map(keys.queue, queues)], [most, 180])
    return moved, [raw.decode() for raw in canceled[::3]]


def maintain(redis, queue="default"):
    """Tidy up after RQ's workers now, however short ago that was done last."""
    redis.delete(f"{keys.OWN}maintained", f"{keys.OWN}maintained:{queue}")
    return upkeep.maintain(Link(redis), [keys.queue(queue)], 60)


def queued(redis, queue="default"):
    """The ids on a queue, the next one first."""
    return [raw.decode() for raw in redis.lrange(keys.queue(queue), 0, -1)]


def registered(redis, status, queue="default"):
    """The ids in a registry; without the executions that stand beside those that are started."""
    members = redis.zrange(keys.REGISTRIES[status] + queue, 0, -1)
    return [raw.decode().partition(":")[0] for raw in members]


def job(redis, job_id="default-0"):
    return Job.fetch(job_id, connection=redis)


def status(redis, job_id="default-0"):
    return redis.hget(keys.job(job_id), "status").decode()


def reason(redis, job_id="default-0"):
    """Why a job failed, as its newest result says."""
    return Result.fetch_latest(Job(job_id, connection=redis)).exc_string


def said(redis):
    """What jobs and callbacks said, in order."""
    return [raw.decode() for raw in redis.lrange(worker_jobs.SAID, 0, -1)]


def traces(redis):
    """All that is in Redis, to see whether anything changed."""
    return {key: redis.dump(key) for key in redis.keys("*")}


def is_canceled(job_id):
    """Cancel a job; return whether that was still possible."""
    try:
        actions.cancel(job_id)
    except NotThisState:
        return False
    return True
