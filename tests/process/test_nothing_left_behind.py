"""What a job changes of its process does not reach the next one (docs/isolation.md)."""

import pytest
from rq.suspension import resume, suspend

import jiffy
from jiffy.producer.enqueue import Job
from tests.jobs import pollute
from tests.support.worker_processes import until_over

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
    found = run(
        *(call for name in names for call in ((pollute.pollute, name), (pollute.probe,))),
        waits=waits,
    )[1::2]
    batches = {line.split()[0] for line in run.worker.lines("job.finished")[len(warm_up) :]}

    assert {
        name: changed
        for name, after in zip(names, found, strict=True)
        if (changed := differences(first, after))
    } == {}
    assert not run.worker.lines("child.replaced")
    assert waits or len(batches) < len(names)  # each is logged at once


@pytest.mark.parametrize("name", pollute.REPLACED)
def test_a_child_that_cannot_be_restored_is_replaced(run, name):
    warm_up = [(pollute.probe,), (pollute.pollute, "nothing")] * 10
    first, *_ = run(*warm_up, waits=False)
    *_, after = run((pollute.pollute, name), (pollute.probe,), waits=False)
    changed = differences(first, after)

    assert not changed
    assert len(replacements(run.worker)) == 1
