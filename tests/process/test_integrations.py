"""Sentry's integration for RQ, which puts itself around RQ's methods, works with our workers and
our `enqueue`, however they are started."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jiffy import redis_io
from tests.support.newcomer import CHECKOUT, PATIENCE_S
from tests.support.receiver import receiving

pytestmark = pytest.mark.slow

# The address is in the environment: SENTRY_DSN.
SENTRY = "import sentry_sdk\nsentry_sdk.init(traces_sample_rate=1.0, shutdown_timeout=30)\n"
PRODUCER = f"""{SENTRY}
import rq
from jiffy import enqueue
from tests.jobs import hooks
from tests.jobs import worker as worker_jobs

with sentry_sdk.start_transaction(name="the producer"):
    enqueue.options(job_id="known")(hooks.set_user, "ann")
    enqueue.options(job_id="good")(worker_jobs.add, 2, 3)
    enqueue.options(job_id="bad")(worker_jobs.fail, "a bad job")
    enqueue.options(job_id="again", retry=rq.Retry(max=2))(worker_jobs.fail, "bad again")
    enqueue.options(job_id="long", timeout=1)(worker_jobs.wait_for, "nobody")
    enqueue.options(job_id="after", depends_on="good")(worker_jobs.nothing)
sentry_sdk.flush()
"""
OF_ITS_OWN = (
    SENTRY
    + """
import jiffy
from jiffy import redis_io

jiffy.{kind}(["default"], connection=redis_io.connect("worker")).work(burst=True)
"""
)
PROGRAMS = {
    "worker.py": SENTRY + "from jiffy.cli import main\nmain('worker')\n",
    "Worker": OF_ITS_OWN.format(kind="Worker"),
    "SimpleWorker": OF_ITS_OWN.format(kind="SimpleWorker"),
    "rq worker": SENTRY + "from jiffy import Worker\n",
}
BAD = {"bad": "ValueError", "again": "ValueError", "long": "JobTimeoutException"}


def read_envelope(body):
    """What Sentry's client sends: a line of JSON for what follows, then that, and so on."""
    lines = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).splitlines()
    return [json.loads(line) for line in lines if line]


@pytest.fixture(scope="module", params=PROGRAMS)
def sent(request, tmp_path_factory, redis_address):
    """What Sentry hears of six jobs: of a producer first, then of a worker that is started so."""
    home = tmp_path_factory.mktemp("project")
    (home / "producer.py").write_text(PRODUCER)
    (home / "worker.py").write_text(PROGRAMS[request.param])
    rq = str(Path(sys.executable).with_name("rq"))
    worker = {
        "worker.py": [sys.executable, "worker.py", "-n", "1", "--burst"],
        "rq worker": [rq, "worker", "-w", "worker.Worker", "--burst", "--url", redis_address],
    }.get(request.param, [sys.executable, "worker.py"])
    with redis_io.connect("test") as redis:
        redis.flushall()
    with receiving(read_envelope) as sentry:
        dsn = sentry.address.replace("//", "//key@") + "/1"
        environ = os.environ | {
            "PYTHONPATH": f"{home}:{CHECKOUT}",
            "JOBS_MODULES": "tests.jobs.worker,tests.jobs.hooks",
            "SENTRY_DSN": dsn,
        }  # fmt: skip
        for program in ([sys.executable, "producer.py"], worker):
            subprocess.run(program, cwd=home, env=environ, check=True, timeout=PATIENCE_S)
    return [item for *_, items in sentry.heard for item in items]


def job_of(item):
    return item["extra"]["rq-job"]["job_id"]


def test_a_job_that_fails_is_reported_once_with_its_traceback(sent):
    events = [item for item in sent if "exception" in item]

    assert sorted(map(job_of, events)) == sorted(BAD)
    for event in events:
        [error] = event["exception"]["values"]
        functions = [frame["function"] for frame in error["stacktrace"]["frames"]]
        assert error["type"] == BAD[job_of(event)]
        assert {"fail", "wait_for"} & set(functions)


def test_a_job_goes_on_with_the_trace_of_its_producer(sent):
    transactions = [item for item in sent if "spans" in item]
    [producer] = [item for item in transactions if item["transaction"] == "the producer"]
    jobs = [item for item in transactions if "rq-job" in item["extra"]]

    assert {job_of(item) for item in jobs} == {"known", "good", "after", *BAD}
    assert {item["transaction"] for item in jobs if job_of(item) in ("known", "bad")} == {
        "tests.jobs.hooks.set_user", "tests.jobs.worker.fail",
    }  # fmt: skip
    assert {item["contexts"]["trace"]["trace_id"] for item in transactions} == {
        producer["contexts"]["trace"]["trace_id"]
    }


def test_what_one_job_says_of_itself_is_not_said_of_another(sent):
    jobs = [item for item in sent if "rq-job" in item.get("extra", {})]
    about = {job_of(item) for item in jobs if item.get("user") or "by" in item.get("tags", {})}

    assert about == {"known"}
