"""What a job changes of its process does not reach the next one (docs/isolation.md)."""

import os
import socket

import pytest
from rq.suspension import resume, suspend

import jiffy
from jiffy.producer.enqueue import Job, Queue
from tests.jobs import pollute
from tests.jobs.worker import tell_process
from tests.support.newcomer import CHECKOUT, wait_until
from tests.support.worker_processes import until_over
from tests.support.worker_support import reason

pytestmark = pytest.mark.slow

MODULES = "tests.jobs.pollute,tests.jobs.worker"


@pytest.fixture
def run(start_worker, redis, monkeypatch):
    """Run calls in one worker, in order; give their results.  The worker is `run.worker`."""
    monkeypatch.setenv("JOBS_MODULES", MODULES)
    jiffy.settings.settings.cache_clear()

    def run(*calls, waits=True, **environ):
        """`waits`: each call for the one before it; or else they come in batches."""
        if not waits:
            suspend(redis)
        run.worker = run.worker or start_worker("-n", "1", JOBS_MODULES=MODULES, **environ)
        ids = []
        for function, *args in calls:
            ids.append(jiffy.enqueue(function, *args).id)
            if waits:
                until_over(run.worker, redis, ids[-1])
        resume(redis)
        until_over(run.worker, redis, *ids)
        results = [Job.fetch(job_id, connection=redis).latest_result() for job_id in ids]
        assert [result.exc_string for result in results if result.exc_string] == []
        return [result.return_value for result in results]

    run.worker = None
    yield run
    monkeypatch.undo()
    jiffy.settings.settings.cache_clear()


LAZY = """
import decimal, os

decimal.getcontext().prec = 4
os.environ["TENANT"] = "acme"

def total():
    found = decimal.Decimal("1234.56") * 2
    decimal.getcontext().prec = 2
    return f"{found} {os.environ.pop('TENANT')}"
"""


def replacements(worker):
    """Why children were replaced, in order."""
    worker.until_logged("child.replaced")
    return [line.partition("reason=")[2] for line in worker.lines("child.replaced")]


def differences(before, after):
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


@pytest.mark.parametrize("waits", [True, False], ids=["alone", "in one batch"])
def test_the_next_job_finds_the_process_as_it_was(run, redis, waits):
    warm_up = [(pollute.probe,), (pollute.pollute, "nothing")] * 20
    first, *_ = run(*warm_up, waits=False)
    names = [*pollute.RESTORED]
    calls = [call for name in names for call in ((pollute.pollute, name), (pollute.probe,))]
    found = []

    def has_come_in_batches():
        """Run them all; each batch is logged at once.  Where jobs last long, none are batched."""
        before = len(run.worker.lines("job.finished"))
        found[:] = run(*calls, waits=waits)[1::2]
        logged = run.worker.lines("job.finished")[before:]
        return len({line.split()[0] for line in logged}) < len(names)

    wait_until(lambda: has_come_in_batches() or waits)
    assert {
        name: changed
        for name, after in zip(names, found, strict=True)
        if (changed := differences(first, after))
    } == {}
    assert not run.worker.lines("child.replaced")
    assert not run.worker.lines("worker.died")


def test_what_no_sign_tells_of_is_restored_between_batches(run):
    (first,) = run((pollute.probe,))
    run(*((pollute.pollute, name) for name in pollute.UNSEEN), waits=False)

    run.worker.until(lambda: not differences(first, run((pollute.probe,))[0]))
    assert not run.worker.lines("child.replaced")


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (pollute.change_default_context, "decimal.DefaultContext"),
        pytest.param(
            pollute.change_root, "root folder",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that"),
        ),
    ],
)  # fmt: skip
def test_a_change_that_no_sign_tells_of_and_nothing_restores_replaces_the_child(run, func, name):
    # A Redis that does not know our scripts costs a connection, which another root folder refuses.
    run((pollute.probe,), (func,))

    assert f"changed: {name}" in replacements(run.worker)[0]


def test_a_crash_while_the_process_is_restored_counts_for_the_job(run, redis):
    job = jiffy.enqueue(pollute.leave_trap)
    run((pollute.probe,))
    until_over(run.worker, redis, job.id)

    assert "its worker died 3 times" in reason(redis, job.id)


@pytest.mark.parametrize("name", pollute.REPLACED)
def test_a_child_that_cannot_be_restored_is_replaced(run, name):
    warm_up = [(pollute.probe,), (pollute.pollute, "nothing")] * 10
    first, *_ = run(*warm_up, waits=False)
    *_, after = run((pollute.pollute, name), (pollute.probe,), waits=False)
    changed = differences(first, after)

    assert not changed
    assert len(replacements(run.worker)) == 1


@pytest.mark.parametrize(
    ("name", "given"), [("connection", "port"), ("database", "file"), ("pool of threads", None)]
)
def test_what_a_pool_keeps_open_is_no_reason(run, tmp_path, name, given):
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {"port": server.getsockname()[1], "file": f"{tmp_path}/shop.db"}
        first, _, again = run(
            (tell_process,), (pollute.keep, name, values.get(given)), (tell_process,)
        )

    assert first == again
    assert not run.worker.lines("child.replaced")


def test_connections_that_are_never_closed_replace_the_child(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        run(*[(pollute.keep, "connection", server.getsockname()[1])] * 12)

        assert replacements(run.worker)[0].startswith("'left: socket to 127.0.0.1:")


def test_tasks_and_generators_of_an_async_job_are_closed_with_it(run):
    *_, said = run((pollute.leave_task,), (pollute.cleaned_up,))

    assert sorted(said) == ["generator closed", "task cleaned up"]
    assert not run.worker.lines("child.replaced")


def test_a_job_answers_only_for_the_memory_that_it_adds(run):
    first, *_, last = run(
        (tell_process,), *[(pollute.fill, 90)] * 3, (pollute.last, 2.5),
        JOB_MEMORY_MB="200",
    )  # fmt: skip

    assert first != last
    (reason,) = replacements(run.worker)
    assert "MB of memory left by jobs; JOB_MEMORY_MB is 200" in reason


def test_the_first_job_of_a_module_finds_what_its_import_has_set(start_worker, redis, tmp_path):
    (tmp_path / "lazy.py").write_text(LAZY)
    worker = start_worker("-n", "1", JOBS_MODULES="lazy", PYTHONPATH=f"{tmp_path}:{CHECKOUT}")
    queue = Queue("default", connection=redis)
    for number in range(3):
        queue.enqueue("lazy.total", job_id=f"{number}")
    until_over(worker, redis, *"012")

    assert [Job.fetch(one, connection=redis).return_value() for one in "012"] == ["2469 acme"] * 3


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.usefixtures("run")
def test_a_job_that_closes_all_that_is_open_has_finished(start_worker, redis, isolate):
    worker = start_worker(JOBS_MODULES=MODULES)
    jiffy.enqueue.options(job_id="closes", isolate=isolate)(pollute.close_all)
    until_over(worker, redis, "closes")

    assert Job.fetch("closes", connection=redis).get_status() == "finished"
    assert not worker.lines("worker.died")


@pytest.mark.parametrize("opens", ["nothing", "thread"])
@pytest.mark.parametrize(
    ("options", "environ"),
    [({"isolate": True}, {}), ({}, {"ISOLATE": "yes"})],
    ids=["job", "worker"],
)
@pytest.mark.usefixtures("run")
def test_an_isolated_job_runs_in_a_process_of_its_own(start_worker, redis, opens, options, environ):
    modules = f"{MODULES},tests.support.opened.{opens}"
    worker = start_worker("-n", "2", "default", JOBS_MODULES=modules, **environ)
    ids = [f"{number}" for number in range(6)]
    for job_id in ids:
        jiffy.enqueue.options(job_id=job_id, **options)(pollute.mark)
    until_over(worker, redis, *ids)
    found = [Job.fetch(job_id, connection=redis).return_value() for job_id in ids]

    assert [marks for marks, _ in found] == [1] * len(ids)
    assert len({pid for _, pid in found}) == len(ids)
