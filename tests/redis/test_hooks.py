"""Hooks: what surrounds a job, a child's life, and enqueueing."""

from contextlib import contextmanager

import pytest
import rq

from jiffy import Enqueue, enqueue, part
from jiffy.control import read
from jiffy.errors import InvalidValue
from jiffy.producer import recipe as enqueueing
from tests.jobs import hooks
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import job, reason, said, status

ENTERED = ["child enters", "outer enters", "inner enters"]


@pytest.fixture
def run(redis, work, environ):
    """Run a job with these hooks of tests/jobs/hooks.py: `run("IN_ORDER", func, …)`."""

    def run(name, func, *args, **options):
        environ(HOOKS=f"tests.jobs.hooks:{name}", JOBS_MODULES="tests")
        enqueue.options(job_id="default-0", **options)(func, *args)
        work()

    return run


@pytest.mark.parametrize(
    ("func", "args", "options", "sees"),
    [
        (worker_jobs.say, ["works"], {}, ["works"]),
        (hooks.tell_tenant_later, [], {}, ["none"]),
        (hooks.fork, [], {}, []),
        (worker_jobs.fail, [], {}, ["ValueError"]),
        (worker_jobs.leave, [3], {}, ["SystemExit"]),
        (worker_jobs.wait_for, ["a"], {"timeout": 1}, ["a begun", "JobTimeoutException"]),
    ],
)
def test_hooks_are_entered_and_left_in_order_and_see_the_exception(
    redis, run, func, args, options, sees
):
    run("IN_ORDER", func, *args, **options)
    raised = sees.pop() if sees and sees[-1][0].isupper() else ""

    assert said(redis) == [
        *ENTERED, *sees, f"inner leaves {raised}".strip(), f"outer leaves {raised}".strip(),
        "child leaves",
    ]  # fmt: skip
    assert status(redis) == ("failed" if raised else "finished")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_wrapped", [False, True], ids=["plain", "under an integration"])
def test_a_callback_for_success_is_called_inside_and_one_for_failure_after(
    redis, run, monkeypatch, is_wrapped, fails
):
    if is_wrapped:  # as Sentry does
        perform_job = rq.SimpleWorker.perform_job
        monkeypatch.setattr(
            rq.SimpleWorker, "perform_job", lambda *given, **more: perform_job(*given, **more)
        )
    callbacks = {
        "on_success": rq.Callback(hooks.note_success),
        "on_failure": rq.Callback(hooks.note_failure),
    }
    run("IN_ORDER", worker_jobs.fail if fails else hooks.tell_tenant, **callbacks)

    left = ["inner leaves", "outer leaves"]
    assert said(redis) == (
        [*ENTERED, *(f"{one} ValueError" for one in left), "failed", "child leaves"]
        if fails
        else [*ENTERED, "none", "succeeded", *left, "child leaves"]
    )


@pytest.mark.parametrize("func", [hooks.tell_tenant, hooks.tell_tenant_later])
def test_a_job_is_in_the_context_that_its_hook_has_set_and_the_next_is_not(
    redis, run, work, environ, func
):
    run("TENANT", func, meta={"tenant": "shop-7"})
    environ(HOOKS=None)
    enqueue(func)
    work()

    assert said(redis) == ["shop-7", "none"]


@pytest.mark.parametrize(
    ("name", "says", "why"),
    [
        ("TOO_EARLY", [], "LookupError: nothing to enter"),
        ("TOO_LATE", ["works"], "LookupError: nothing to enter"),
        ("NO_CONTEXT", [], "no_context() is None; it must be a context manager."),
    ],
)
def test_a_hook_that_raises_fails_the_job_with_that_reason(redis, run, name, says, why):
    run(name, worker_jobs.say, "works")

    assert (status(redis), said(redis)) == ("failed", says)
    assert reason(redis).strip().endswith(why)


@pytest.mark.parametrize(
    ("name", "deed"),
    [("SWALLOW", "swallowed it"), ("REPLACE", "replaced it with KeyError: 'other'")],
)
def test_a_hook_cannot_hide_that_a_job_failed(redis, run, name, deed, capsys, caplog):
    run(name, worker_jobs.fail, "it broke", retry=rq.Retry(max=1))

    assert status(redis) == "failed"
    assert job(redis).retries_left == 0
    cause = read.job(redis, "default-0").reason
    assert cause.startswith(
        f"ValueError: it broke (the hook {name.lower()} {deed}) (jobs/worker.py:"
    )
    [line, _] = caplog.messages
    assert line.startswith("hook.misbehaved job=default-0 reason=")


@pytest.fixture
def surrounded(redis):
    """An `enqueue` whose jobs carry a tenant and say what surrounds their enqueueing."""

    @contextmanager
    def around(job):
        worker_jobs.say(f"before {job.func_name.rpartition('.')[2]} on {job.origin}")
        job.meta["tenant"] = "shop-7"
        yield
        worker_jobs.say(f"after, {redis.exists(job.key)} written")

    return Enqueue(around=[around])


@pytest.mark.parametrize(
    ("options", "carries"),
    [
        ({}, {"tenant": "shop-7"}),
        ({"in_": "5m", "queue": "low"}, {"tenant": "shop-7"}),
        ({"meta": {"by": "Ann"}}, {"by": "Ann", "tenant": "shop-7"}),
    ],
)
def test_what_is_around_enqueueing_adds_to_the_jobs_meta(redis, surrounded, options, carries):
    made = surrounded.options(**options)(worker_jobs.add, 2, 3)
    queue = options.get("queue", "default")

    assert job(redis, made.id).meta == made.get_meta() == carries
    assert said(redis) == [f"before add on {queue}", "after, 1 written"]


def test_so_do_jobs_that_are_enqueued_together(redis, surrounded):
    many = surrounded.many(worker_jobs.add, [(1, 2), (3, 4)])
    chain = surrounded.chain(part(worker_jobs.add, 1, 2), part(worker_jobs.nothing))
    group = surrounded.group([part(worker_jobs.add, 1, 2)], part(worker_jobs.nothing))

    for one in [*many, *chain, *group.jobs, group.then]:
        assert job(redis, one.id).meta == {"tenant": "shop-7"}


def test_jobs_with_the_same_meta_are_written_together(redis, monkeypatch):
    @contextmanager
    def around(job):
        job.meta["tenant"] = "shop-7"
        yield

    monkeypatch.setattr(enqueueing, "WRITE_EVERY_S", 60)
    redis.config_resetstat()
    Enqueue(around=[around]).many(worker_jobs.add, [(number, 2) for number in range(100)])

    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] <= 2


@pytest.mark.parametrize(
    ("around", "error"),
    [
        (hooks.swallow, "around is <function"),
        ([hooks.bare], "around, hook 1, is 'bare'; it must be under @contextmanager."),
    ],
)
def test_what_cannot_be_around_is_refused_at_once(around, error):
    with pytest.raises(InvalidValue, match=error.replace("(", r"\(")):
        Enqueue(around=around)


def test_meta_that_json_cannot_carry_is_refused(redis):
    @contextmanager
    def around(job):
        job.meta["tenant"] = {1, 2}
        yield

    with pytest.raises(InvalidValue, match=r"meta is .*; it must be a dict that JSON can"):
        Enqueue(around=[around])(worker_jobs.nothing)
    assert not redis.keys("rq:job:*")
