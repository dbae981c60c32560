"""What a subclass or an integration puts around RQ's methods is called, with what RQ gives it."""

import functools
import json
import re

import pytest
import rq

import jiffy
from jiffy import SimpleWorker, keys
from jiffy.errors import DuplicateJob
from jiffy.worker.shared_memory import Board
from tests.jobs import fault
from tests.jobs import worker as worker_jobs
from tests.jobs.enqueue import add
from tests.jobs.worker import say
from tests.support.worker_support import child, enqueue, queued, registered, said, status

TRACE = {"trace": "of the caller"}


@pytest.fixture
def wrap(monkeypatch):
    """Put a function around a method, as integrations do: `wrap(rq.Queue, "enqueue_job", around)`;
    it is given the method and its arguments."""

    def put(kind, name, around):
        method = getattr(kind, name)
        wrapper = functools.wraps(method)(lambda *args, **kwargs: around(method, *args, **kwargs))
        monkeypatch.setattr(kind, name, wrapper)

    return put


@pytest.fixture
def work(redis):
    """Run all queued jobs by a worker of this class."""

    def work(kind=SimpleWorker, **options):
        worker = kind(["default"], connection=redis, **options)
        worker.work(burst=True, logging_level="CRITICAL")

    return work


def trace(enqueue_job, queue, job, **options):
    say(f"around {job.id} on {queue.name}, at_front={options['at_front']}")
    job.meta |= TRACE
    return enqueue_job(queue, job, **options)


def fields_of(redis, job_id):
    """A job's hash, but for times."""
    return {
        name: re.sub(rb"^\d{4}-.*Z$", b"<time>", value)
        for name, value in redis.hgetall(keys.job(job_id)).items()
    }


@pytest.mark.parametrize(
    "options",
    [
        {}, {"at_front": True}, {"retry": 3}, {"ttl": 60}, {"expires": "5m"},
        {"meta": {"by": "Ann"}}, {"unique": "1h"}, {"depends_on": "parent"},
        {"queue": "low", "timeout": "2m"},
    ],
)  # fmt: skip
def test_around_enqueue_job_a_job_is_what_it_was_but_for_its_meta(redis, wrap, options):
    jiffy.enqueue.options(job_id="parent")(add, 0, 0)
    jiffy.enqueue.options(**options, job_id="before")(add, 2, 3)
    wrap(rq.Queue, "enqueue_job", trace)
    jiffy.enqueue.options(**options, job_id="after")(add, 3, 2)
    before, after = fields_of(redis, "before"), fields_of(redis, "after")

    assert json.loads(after.pop(b"meta")) == options.get("meta", {}) | TRACE
    before.pop(b"meta", None)
    differ = {name for name in before | after if before.get(name) != after.get(name)}
    assert differ == {b"data", b"description", b"jiffy:call"}
    assert said(redis) == [
        f"around after on {options.get('queue', 'default')}, "
        f"at_front={options.get('at_front', False)}"
    ]
    assert abs(redis.ttl(keys.job("before")) - redis.ttl(keys.job("after"))) < 30


def test_a_job_at_the_front_stands_there_and_a_dependent_waits(redis, wrap):
    wrap(rq.Queue, "enqueue_job", trace)
    for options in ({}, {"at_front": True}, {"depends_on": "0"}):
        jiffy.enqueue.options(**options, job_id=f"{len(said(redis))}")(add, 1, 1)

    assert queued(redis) == ["1", "0"]
    assert registered(redis, "deferred") == ["2"]


def test_what_is_refused_or_there_already_is_so_inside_of_it(redis, wrap):
    wrap(rq.Queue, "enqueue_job", trace)
    first = jiffy.enqueue.options(unique="1h")(add, 2, 3)
    jiffy.enqueue.options(job_id="id")(add, 2, 3)

    assert jiffy.enqueue.options(unique="1h")(add, 2, 3).id == first.id
    with pytest.raises(DuplicateJob):
        jiffy.enqueue.options(job_id="id")(add, 2, 3)
    assert len(queued(redis)) == 2


def in_bulk():
    return jiffy.enqueue.many(add, [(n, 1) for n in range(3)])


def in_a_chain():
    return jiffy.enqueue.chain(*[jiffy.part(add, n, 1) for n in range(3)])


def in_a_group():
    group = jiffy.enqueue.group(
        [jiffy.part(add, n, 1) for n in range(2)], then=jiffy.part(add, 2, 1)
    )
    return [*group.jobs, group.then]


@pytest.mark.parametrize("put", [in_bulk, in_a_chain, in_a_group])
def test_many_jobs_and_those_of_workflows_are_enqueued_inside_of_it_too(redis, wrap, put):
    wrap(rq.Queue, "enqueue_job", trace)
    jobs = put()

    assert {*said(redis)} == {f"around {job.id} on default, at_front=False" for job in jobs}
    assert len(said(redis)) == 3
    assert [json.loads(fields_of(redis, job.id)[b"meta"]) for job in jobs] == [TRACE] * 3


def test_what_is_around_enqueue_job_may_keep_a_job_back(redis, wrap):
    wrap(rq.Queue, "enqueue_job", lambda method, queue, job, **options: job)
    job = jiffy.enqueue(add, 2, 3)

    assert (job.origin, job.args, queued(redis)) == ("default", [2, 3], [])


# The worker's side


class Noting(SimpleWorker):
    """Says what it is called with, and calls RQ."""

    def perform_job(self, job, queue, execution):
        say(f"before {job.id} of {queue.name}")
        assert execution.job_id == job.id
        done = super().perform_job(job, queue, execution)
        say(f"after: {done}")
        return done

    def handle_exception(self, job, kind, error, traceback):
        say(f"{job.get_status(refresh=False)}: {error} in {traceback.tb_next is not None}")
        super().handle_exception(job, kind, error, traceback)


@pytest.mark.parametrize(
    ("func", "args", "options", "becomes", "says"),
    [
        (worker_jobs.add, (2, 3), {}, "finished", ["after: True"]),
        (worker_jobs.add, (2, 3), {"on_success": rq.Callback(worker_jobs.note_success)},
         "finished", ["success of one: 5", "after: True"]),
        (worker_jobs.fail, ("it broke",), {},
         "failed", ["failed: it broke in True", "after: False"]),
        (worker_jobs.fail, ("it broke",), {"on_failure": rq.Callback(worker_jobs.note_failure)},
         "failed", ["failure of one: ValueError: it broke", "failed: it broke in True",
                    "after: False"]),
        (worker_jobs.fail, ("it broke",), {"retry": rq.Retry(max=1)}, "failed",
         ["failed: it broke in True", "after: False", "before one of default",
          "failed: it broke in True", "after: False"]),
        (worker_jobs.add, (2, 3), {"on_success": rq.Callback(worker_jobs.fail_as_callback)},
         "failed", None),
    ],
)  # fmt: skip
def test_a_worker_that_overrides_methods_of_rqs_runs_jobs_inside_of_them(
    redis, work, func, args, options, becomes, says
):
    job = rq.Queue(connection=redis, serializer="json").enqueue(
        func, args=args, job_id="one", **options
    )
    work(Noting)

    assert job.get_status() == becomes
    assert registered(redis, becomes) == ["one"]
    assert says is None or said(redis) == ["before one of default", *says]


def test_what_is_around_a_jobs_perform_is_called(redis, work, wrap):
    jiffy.enqueue.options(job_id="one")(add, 2, 3)
    wrap(rq.job.Job, "perform", lambda perform, job: say(f"around {job.id}") or perform(job) + 1)
    work()

    assert said(redis) == ["around one"]
    assert rq.job.Job.fetch("one", redis, "json").return_value() == 6


def test_callbacks_see_the_job_that_the_function_has_changed(redis, work):
    jiffy.enqueue.options(on_success=tell_meta)(change_meta)
    work()

    assert said(redis) == ["finished {'rows': 12}"]


def change_meta():
    rq.get_current_job().meta["rows"] = 12  # and does not save it


def tell_meta(job, redis, result):
    say(f"{job.get_status(refresh=False)} {job.meta}")


def test_a_shutdown_inside_a_wrapped_perform_job_requeues_the_job(redis, wrap):
    """With Sentry, for one: its function is cut short, so it has not finished."""
    board = Board()

    def shut_down(perform_job, *args):
        board.retire()
        return perform_job(*args)

    wrap(jiffy.SimpleWorker, "perform_job", shut_down)
    enqueue(redis, 1, fault.raise_what_the_engine_raises)
    child(redis, board).work()

    assert (status(redis), queued(redis)) == ("queued", ["default-0"])
