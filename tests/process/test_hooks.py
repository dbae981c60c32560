"""Hooks in real workers, however these are started, and the recipes of docs/hooks.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rq.command import send_command, send_stop_job_command

from jiffy.producer.enqueue import Queue
from tests.docs import follow
from tests.jobs import hooks
from tests.jobs import worker as worker_jobs
from tests.support.newcomer import CHECKOUT, PATIENCE_S
from tests.support.postgres import start_postgres
from tests.support.worker_processes import (
    begin,
    let_go_on,
    until_over,
    until_said,
    worker_names,
)
from tests.support.worker_support import enqueue, job, reason, said, status

pytestmark = pytest.mark.slow

AROUND = ["child enters", "outer enters", "inner enters"]
SETTINGS = {"JOBS_MODULES": "tests.jobs", "HOOKS": "tests.jobs.hooks:IN_ORDER"}
OWN = """
from jiffy import run_worker
from tests.jobs.hooks import IN_ORDER

if __name__ == "__main__":
    run_worker(IN_ORDER)
"""
# What it opens is not for forks: children run the program from its beginning.
OPENS = "import socket\n\nkept = socket.socketpair()\n"
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("command", "program", "settings"),
    [
        (["worker.py", "-n", "1", "--burst"], OWN, {}),
        (["worker.py", "-n", "1", "--burst"], OPENS + OWN, {}),
        (["-m", "jiffy", "worker", "-n", "1", "--burst"], "", SETTINGS),
        ([BIN / "rq", "worker", "-w", "jiffy.Worker", "--burst"], "", SETTINGS),
    ],
    ids=["worker.py", "exec", "jiffy worker", "rq worker"],
)
def test_hooks_surround_jobs_however_the_worker_is_started(
    redis, redis_address, tmp_path, command, program, settings
):
    enqueue(redis, 1, worker_jobs.say, "works")
    (tmp_path / "worker.py").write_text(program)
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT), "JOBS_MODULES": "tests.jobs"} | settings
    url = ["--url", redis_address] if "rq" in str(command[0]) else []
    ran = subprocess.run(
        [sys.executable, *command, *url], cwd=tmp_path, env=environ, timeout=PATIENCE_S, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
    )  # fmt: skip

    assert said(redis) == [*AROUND, "works", "inner leaves", "outer leaves", "child leaves"]
    assert ("module.opened" in ran.stdout) == (OPENS in program)


@pytest.fixture
def worker(start_worker):
    return start_worker(**SETTINGS, GRACE_S="4")


def test_hooks_of_a_job_that_is_stopped_are_left_first(redis, worker):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    begin(worker, redis, "a")
    send_stop_job_command(redis, "default-0", serializer=job(redis).serializer)
    enqueue(redis, 1, worker_jobs.say, "next", queue="low")
    until_over(worker, redis, "low-0", queue="low")

    assert said(redis)[3:6] == ["a begun", "inner leaves Stopped", "outer leaves Stopped"]
    assert (status(redis), reason(redis)) == (
        "stopped", "Job stopped by user, work-horse terminated.",
    )  # fmt: skip


def test_a_job_that_ignores_that_it_was_stopped_is_killed(redis, worker):
    enqueue(redis, 1, hooks.ignore_everything)
    until_said(worker, redis, "ignores")
    send_stop_job_command(redis, "default-0", serializer=job(redis).serializer)
    worker.until(lambda: status(redis) == "stopped")


def test_it_is_killed_no_later_where_it_is_stopped_again_and_again(redis, worker):
    enqueue(redis, 1, hooks.ignore_everything)
    until_said(worker, redis, "ignores")
    [name] = worker_names(redis)

    def is_stopped():
        send_command(redis, name, "stop-job", job_id="default-0")
        return status(redis) == "stopped"

    worker.until(is_stopped)


def test_hooks_of_a_job_that_a_shutdown_interrupts_are_left_and_it_runs_again(
    redis, worker, start_worker
):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    begin(worker, redis, "a")
    worker.process.terminate()
    worker.wait()
    interrupted = said(redis)
    second = start_worker(**SETTINGS)
    begin(second, redis, "a", 2)
    let_go_on(redis, "a")
    until_over(second, redis, "default-0")

    left = ["inner leaves Interrupted", "outer leaves Interrupted", "child leaves"]
    assert interrupted == [*AROUND, "a begun", *left]
    assert said(redis)[-3:] == ["a ended", "inner leaves", "outer leaves"]


def test_the_process_of_an_isolated_job_enters_its_hooks_for_as_long_as_that_takes(
    redis, start_worker
):
    enqueue(redis, 1, worker_jobs.say, "done")
    worker = start_worker(
        **SETTINGS | {"HOOKS": "tests.support.slow_to_begin:HOOKS", "ISOLATE": "yes"}
    )
    until_over(worker, redis, "default-0")

    assert said(redis) == ["done"]


def test_a_child_whose_hook_cannot_be_entered_claims_nothing(redis, start_worker):
    enqueue(redis, 1)
    worker = start_worker(**SETTINGS | {"HOOKS": "tests.jobs.hooks:NO_CHILD"})
    worker.until_logged("worker.died")

    assert status(redis) == "queued"
    assert "LookupError: nothing to enter" in worker.log


def test_each_line_that_a_job_logs_has_its_id(redis, start_worker):
    enqueue(redis, 1, hooks.write_lines)
    worker = start_worker(JOBS_MODULES="tests.jobs")
    until_over(worker, redis, "default-0")

    lines = re.findall(r"^[\d:.]+ (.* of .*)$", worker.log, re.MULTILINE)
    assert lines == ["WARNING job=default-0 of a job", "ERROR job=default-0 of its thread"]


@pytest.fixture(scope="module")
def postgres():
    with start_postgres() as address:
        yield address.replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request, tmp_path):
    """The project of docs/hooks.md, with its tables; its settings."""
    for block in follow.blocks((CHECKOUT / "docs/hooks.md").read_text()):
        if block.file:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.text)
    (tmp_path / "jobs" / "__init__.py").touch()
    url = f"sqlite:///{tmp_path}/shop.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
    environ = {"DATABASE_URL": url, "PYTHONPATH": f"{tmp_path}:{CHECKOUT}"}
    make = "from shop.db import *\nBase.metadata.drop_all(engine)\nBase.metadata.create_all(engine)"
    subprocess.run([sys.executable, "-c", make], env=os.environ | environ, check=True)
    return environ


@pytest.mark.parametrize("has_hook", [1, 0])
def test_a_flush_that_failed_spoils_no_later_job_where_the_session_is_a_hook(
    redis, start_worker, shop, tmp_path, has_hook
):
    (tmp_path / "hooks.py").write_text(
        f"from jiffy import Hooks\nfrom shop import db\nHOOKS = Hooks([db.session][:{has_hook}])\n"
    )
    settings = {"JOBS_MODULES": "jobs.orders", "HOOKS": "hooks:HOOKS"} | shop
    queue = Queue(connection=redis)
    for job_id, args in {"first": [7], "double": [7], "other": [8]}.items():
        queue.enqueue("jobs.orders.save", args=args, job_id=job_id)
    queue.enqueue("jobs.orders.count", job_id="count")
    worker = start_worker("-n", "1", home=tmp_path, **settings)
    until_over(worker, redis, "count")
    fates = {name: status(redis, name) for name in ("first", "double", "other", "count")}

    assert fates == {
        "first": "finished", "double": "failed",
        "other": "finished" if has_hook else "failed",
        "count": "finished" if has_hook else "failed",
    }  # fmt: skip
    assert has_hook or "PendingRollbackError" in reason(redis, "count")
    assert not has_hook or job(redis, "count").return_value() == 2
