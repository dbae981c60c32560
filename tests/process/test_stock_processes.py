"""How RQ's own programs handle our jobs: a table of docs/compatibility.md, row by row."""

import os
import pickle
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from bench.compat import tables
from jiffy import actions, enqueue, every, keys
from jiffy.scheduler.entry import read
from jiffy.scheduler.rq_entries import Scheduler
from jobs import numbers
from tests.support.newcomer import CHECKOUT, PATIENCE_S, wait_until
from tests.support.ports import free_port
from tests.support.scheduler_processes import Running
from tests.support.worker_support import job, queued, reason, status

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
ROWS = {row["program"]: row for row in tables.rows("program")}
READABLE_LATER = "DeserializationError"


class Trap:
    """Once unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def run(redis, tmp_path):
    """Run a program of the table to its end, with more words; without those to be left out."""

    def run(program, *more, without=(), check=True):
        assert program in ROWS
        name, *words = [word for word in program.split() if word not in without]
        if name == "rq":  # its subcommand comes first
            name, words = BIN / name, [words[0], "--url", os.environ["REDIS_URL"], *words[1:]]
        else:
            name, words = BIN / name, ["--url", os.environ["REDIS_URL"], *words]
        done = subprocess.run(
            [name, *words, *more], cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def put(redis):
    """Enqueue a job of ours."""
    return lambda: enqueue.options(job_id="default-0", meta={"by": "Ann"})(numbers.add, 2, 3)


WORKERS = ["rq worker --serializer json", "rq worker-pool --serializer json"]
OURS = ["rq worker --worker-class jiffy.Worker", "rq worker-pool --worker-class jiffy.Worker"]
JSON = ("--serializer", "json")


@pytest.mark.parametrize("program", WORKERS + OURS)
def test_a_worker_runs_our_job(run, put, program):
    ours = put()
    run(program, "--burst")

    assert (ours.return_value(), ours.get_meta()) == (5, {"by": "Ann"})


@pytest.mark.parametrize("program", WORKERS)
@pytest.mark.parametrize("recover", ["rq requeue", "actions"])
def test_without_its_flag_the_job_fails_and_runs_once_it_is_requeued(
    run, put, redis, program, recover
):
    ours = put()
    run(program, "--burst", without=JSON)
    assert READABLE_LATER in reason(redis)

    if recover == "actions":
        actions.retry(ours.id)
    else:
        run("rq requeue --all --serializer json", "--queue", "default")
    run(program, "--burst")

    assert (ours.return_value(), ours.get_meta()) == (5, {"by": "Ann"})


@pytest.mark.parametrize("without", [(), JSON])
def test_requeue_leaves_data_and_meta_as_they_are(run, put, redis, work, without):
    ours = put()
    run("rq worker --serializer json", "--burst", without=JSON)
    run("rq requeue --all --serializer json", "--queue", "default", without=without)
    work()

    assert (ours.return_value(), ours.get_meta()) == (5, {"by": "Ann"})


def test_a_pool_unpickles_the_meta_of_an_abandoned_job_all_the_same(run, redis, tmp_path):
    fields = {"meta": pickle.dumps(Trap(tmp_path / "mark")), "data": b"[]", "status": "started"}
    redis.hset(keys.job("default-0"), mapping=fields | {"origin": "default"})
    redis.zadd(f"{keys.RQ}wip:default", {"default-0:execution": 1})
    run("rq worker-pool --serializer json", "--burst", "default")

    assert (tmp_path / "mark").exists()


def test_enqueue_puts_a_job_for_our_workers(run, redis, work):
    call = ("--job-id", "default-0", "jobs.numbers.add", ":2", ":3")
    run("rq enqueue --serializer json", *call)
    work()

    assert job(redis).return_value() == 5


def test_without_its_flag_it_pickles_and_our_worker_says_what_to_do(run, redis, work):
    call = ("--job-id", "default-0", "jobs.numbers.add", ":2", ":3")
    run("rq enqueue --serializer json", *call, without=JSON)
    work()

    assert "SERIALIZERS=json,pickle" in reason(redis)


def test_info_shows_our_queues_and_empty_empties_them(run, put, redis):
    put()
    assert "1 queues, 1 jobs total" in run("rq info").stdout

    run("rq empty", "default")
    assert not redis.exists(keys.job("default-0"))


def test_suspend_keeps_our_workers_from_working(run, put, redis, work):
    put()
    run("rq suspend")
    work()
    assert status(redis) == "queued"

    run("rq resume")
    work()
    assert status(redis) == "finished"


def test_cron_pickles_whatever_its_flag_says(redis, tmp_path, work):
    config = tmp_path / "table.py"
    config.write_text(
        "from rq import cron\n"
        "from jobs import numbers\n"
        "cron.register(numbers.add, 'default', (2, 3), interval=1)\n"
    )
    words = ["cron", "--serializer", "json", "--url", os.environ["REDIS_URL"], config]
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen([BIN / "rq", *words], cwd=tmp_path, env=environ) as process:
        try:
            wait_until(lambda: queued(redis))
        finally:
            process.terminate()
    job_id = queued(redis)[0]
    work()

    assert "SERIALIZERS=json,pickle" in reason(redis, job_id)


@contextmanager
def dashboard(*flags):
    """A stock rq-dashboard: `get(path)` gives the status and the text of its answer."""
    port = free_port()
    words = ["--bind", "127.0.0.1", "--port", str(port), "--redis-url", os.environ["REDIS_URL"]]

    def get(path):
        try:
            url = f"http://127.0.0.1:{port}{path}"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def answers():
        try:
            return get("/0/data/queues.json")[0] == 200
        except urllib.error.URLError:
            return False

    with subprocess.Popen(
        [BIN / "rq-dashboard", *words, *flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            wait_until(answers)
            yield get
        finally:
            process.terminate()


def test_rq_dashboard_shows_our_job(put):
    assert "rq-dashboard --json" in ROWS
    put()
    with dashboard("--json") as get:
        code, text = get("/0/data/job/default-0.json")

    assert (code, "jobs.numbers.add(2, 3)" in text, "Ann" in text) == (200, True, True)


def test_without_its_flag_rq_dashboard_has_no_page_for_it(put):
    put()
    with dashboard() as get:
        assert get("/0/data/jobs/default/queued/8/asc/1.json")[0] == 200
        assert get("/0/data/job/default-0.json")[0] == 500


def test_with_its_flag_the_pages_of_rq_dashboard_still_unpickle(redis, tmp_path):
    fields = {"meta": pickle.dumps(Trap(tmp_path / "mark")), "data": b"[]", "origin": "default"}
    redis.hset(keys.job("default-0"), mapping=fields | {"status": "queued"})
    with dashboard("--json") as get:
        get("/0/view/job/default-0")

    assert (tmp_path / "mark").exists()


RQSCHEDULER = "rqscheduler --job-class jiffy.Job --queue-class jiffy.Queue"


@pytest.fixture
def due(redis):
    """An entry of ours that is due."""
    before = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=5)
    return Scheduler(connection=redis).schedule(before, numbers.add, args=[2, 3], interval=600)


def test_rqscheduler_enqueues_what_is_due(run, due, redis, work):
    run(RQSCHEDULER, "--burst")
    work()

    assert due.return_value() == 5
    assert redis.zscore(keys.ENTRIES, due.id) > datetime.now(UTC).timestamp()


def test_without_its_flags_rqscheduler_ends_and_the_entry_stays_due(run, due, redis, work):
    done = run(RQSCHEDULER, "--burst", without=RQSCHEDULER.split()[1:], check=False)
    assert done.returncode == 1
    assert READABLE_LATER in done.stderr

    Scheduler(connection=redis).enqueue_jobs()
    work()
    assert due.return_value() == 5


def test_beside_a_scheduler_of_ours_and_after_it_it_meets_no_entry(due, redis, tmp_path):
    ours = Running(tmp_path, read([every(1, numbers.add, args=[2, 3], overlap="allow")]))
    words = ["--url", os.environ["REDIS_URL"], "--interval", "0.05"]

    def locked_out(times):
        seen = (line for line in stock.stdout if "Lock already taken" in line)
        return len(list(islice(seen, times))) == times and stock.poll() is None

    try:
        ours.until_logged("tick.enqueued")
        with subprocess.Popen(
            [BIN / "rqscheduler", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as stock:
            beside = locked_out(40)  # two seconds, in which entries of ours were due
            ours.send(signal.SIGTERM)
            ours.wait()
            enqueued = redis.llen(keys.queue("default"))
            after = locked_out(40)
            stock.kill()  # asked to end, it may wait for a reader of what it says
    finally:
        ours.end()

    assert (beside, after) == (True, True)
    assert redis.llen(keys.queue("default")) == enqueued
