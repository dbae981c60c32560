"""Processes of RQ 2.12 on the same Redis: that is how people migrate."""

import os
import subprocess
import sys

import pytest
import rq
from rq.serializers import JSONSerializer

import jiffy
from jiffy import actions, keys
from jobs import numbers
from tests.jobs import plain as plain_jobs
from tests.jobs import worker as worker_jobs
from tests.support.newcomer import CHECKOUT, PATIENCE_S, wait_until
from tests.support.worker_processes import begin, until_over, worker_names
from tests.support.worker_support import enqueue, job, queued, registered, status

pytestmark = pytest.mark.slow

VERSION = "2.12.0"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """RQ 2.12 without what it needs: that is here."""
    home = tmp_path_factory.mktemp("rq")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", home, f"rq=={VERSION}"], check=True)
    return home


@pytest.fixture
def rq_2(folder, redis_address):
    """Run a program, or RQ's command, with RQ 2.12; return what it prints."""

    def run(program, *words):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env=os.environ | {"PYTHONPATH": f"{folder}:{CHECKOUT}", "REDIS_URL": redis_address},
            cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("import rq; print(rq.VERSION)") == f"{VERSION}\n"
    return run


COMMAND = "from rq.cli import main; main()"
WORKER = ("worker", "--burst", "--serializer", "json", "default")
PREAMBLE = """if True:
    import os, redis, rq, rq.command
    from rq.serializers import JSONSerializer
    connection = redis.Redis.from_url(os.environ["REDIS_URL"])
    queue = rq.Queue(connection=connection, serializer=JSONSerializer)
    fetch = lambda id: rq.job.Job.fetch(id, connection=connection, serializer=JSONSerializer)
"""


def test_its_worker_runs_our_jobs(rq_2, redis):
    made = jiffy.enqueue(numbers.add, 2, 3)
    after = jiffy.enqueue.options(depends_on=made)(numbers.add, 4, 5)
    rq_2(COMMAND, *WORKER)

    assert (jiffy.wait(made), jiffy.wait(after)) == (5, 9)


def test_our_worker_runs_its_jobs(rq_2, redis, start_worker):
    rq_2(
        PREAMBLE
        + """
    parent = queue.enqueue("tests.jobs.worker.add", 2, 3, job_id="parent")
    queue.enqueue("tests.jobs.worker.add", 4, 5, job_id="dependent", depends_on=parent)
    queue.enqueue("tests.jobs.worker.fail", job_id="broken", retry=rq.Retry(max=1))
    """
    )
    until_over(start_worker(), redis, "parent", "dependent", "broken")
    printed = rq_2(
        PREAMBLE
        + """
    print(fetch("parent").return_value(), fetch("dependent").return_value())
    print(fetch("broken").get_status().value)
    """
    )

    assert printed == "5 9\nfailed\n"


def test_its_tools_work_on_our_worker(rq_2, redis, start_worker):
    enqueue(redis, 2, worker_jobs.wait_for, "a")
    worker = start_worker("-n", "1", "default")
    begin(worker, redis, "a")
    overview = rq_2(COMMAND, "info")
    rq_2(PREAMBLE + "    fetch('default-1').cancel()")
    rq_2(PREAMBLE + "    rq.command.send_stop_job_command(connection, 'default-0', JSONSerializer)")
    until_over(worker, redis, "default-0")

    assert worker_names(redis)[0] in overview
    assert (status(redis), status(redis, "default-1")) == ("stopped", "canceled")


def test_it_requeues_what_failed_here(rq_2, redis, work):
    enqueue(redis, 1, worker_jobs.fail)
    work()
    rq_2(PREAMBLE + "    fetch('default-0').requeue()")

    assert (status(redis), queued(redis)) == ("queued", ["default-0"])
    assert work() == 1


@pytest.fixture
def plain(environ):
    """Functions that both RQs can import are jobs."""
    environ(JOBS_MODULES="tests.jobs.plain")


def test_both_workers_run_what_both_producers_put_on_one_queue_each_job_once(
    rq_2, redis, plain, start_worker, tmp_path
):
    here = f"{tmp_path}"
    for _ in range(2):  # each of the two workers runs one of these
        jiffy.enqueue(plain_jobs.meet, here)
    enqueue_theirs = f"    queue.enqueue('tests.jobs.plain.note', {here!r})"
    rq_2(PREAMBLE + f"    for _ in range(20):\n    {enqueue_theirs}")
    jiffy.enqueue.many(plain_jobs.note, [(here,)] * 20)
    worker = start_worker("-n", "1", "default", JOBS_MODULES="tests.jobs.plain")
    rq_2(COMMAND, *WORKER)
    worker.until(lambda: len(registered(redis, "finished")) == 42)

    assert len(list(tmp_path.glob("[0-9]*-*"))) == 40
    assert registered(redis, "failed") == queued(redis) == []


def test_its_scheduler_and_its_worker_run_our_delayed_job_and_its_retries(
    rq_2, redis, plain, tmp_path
):
    later = jiffy.enqueue.options(in_="1s", retry=jiffy.Retry(2, pause=0), meta={"by": "Ann"})
    made = later(plain_jobs.fail_twice, f"{tmp_path}")
    wait_until(lambda: redis.time()[0] > redis.zscore(f"{keys.RQ}scheduled:default", made.id))
    rq_2(COMMAND, *WORKER, "--with-scheduler")

    assert (jiffy.wait(made, timeout="30s"), made.get_meta()) == ("at last", {"by": "Ann"})


def test_without_the_flag_its_requeue_replaces_our_meta_and_the_job_runs_all_the_same(
    rq_2, redis, work
):
    made = jiffy.enqueue.options(meta={"by": "Ann"})(numbers.add, 2, 3)
    rq_2(COMMAND, "worker", "--burst", "default")
    rq_2(COMMAND, "requeue", "--all", "--queue", "default")
    work()

    assert jiffy.wait(made) == 5
    assert redis.hget(made.key, "meta")[:1] == b"\x80"


@pytest.mark.parametrize("new", ["rate_limited", "ready_to_enqueue"])
def test_it_cannot_read_a_job_in_a_status_of_3_0(rq_2, redis, new):
    enqueue(redis)
    redis.hset(keys.job("default-0"), "status", new)
    read = """
    try:
        fetch("default-0")
    except ValueError as error:
        print(error)
    """

    assert f"'{new}' is not a valid JobStatus" in rq_2(PREAMBLE + read)


def test_a_slot_that_its_worker_does_not_free_is_free_seconds_later(rq_2, redis, start_worker):
    queue = rq.Queue(connection=redis, serializer=JSONSerializer)
    limit = rq.RateLimit("mail", 1)
    for number in range(2):
        job_id = f"default-{number}"
        queue.enqueue(numbers.add, number, 1, job_id=job_id, rate_limit=limit)
    rq_2(COMMAND, *WORKER)
    assert [status(redis, job_id) for job_id in ("default-0", "default-1")] == [
        "finished",
        "rate_limited",
    ]
    until_over(start_worker(JOBS_MODULES="jobs"), redis, "default-1")

    assert job(redis, "default-1").return_value() == 2


def test_it_cancels_a_scheduled_job_of_ours_and_we_one_of_its(rq_2, redis):
    ours = jiffy.enqueue.options(in_="1h")(numbers.add, 1, 2)
    rq_2(PREAMBLE + f"    fetch({ours.id!r}).cancel()")
    rq_2(
        PREAMBLE
        + """
    import datetime
    queue.enqueue_in(datetime.timedelta(hours=1), "tests.jobs.worker.nothing", job_id="theirs")
    """
    )
    actions.cancel("theirs")

    assert ours.get_status() == "canceled"
    assert status(redis, "theirs") == "canceled"
