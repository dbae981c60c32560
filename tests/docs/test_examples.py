"""The two web services of examples/, with real workers, spoken to over HTTP."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from examples import add, start_task
from jiffy import keys, redis_io
from jiffy.producer.enqueue import Job
from tests.support.cutting import Cutter
from tests.support.newcomer import CHECKOUT, PATIENCE_S, wait_until
from tests.support.ports import free_port
from tests.support.worker_processes import Dyno

PROGRAMS = (add, start_task)


@pytest.fixture
def adding(redis):
    with served(add.app) as address:
        yield address


@pytest.fixture
def tasks(redis):
    with served(start_task.app) as address:
        yield address


@pytest.fixture
def worker(redis, tmp_path):
    """A real worker on both queues."""
    dyno = Dyno(tmp_path, ["-n", "1", "default", "long_tasks"], {"JOBS_MODULES": "jobs"})
    yield dyno
    dyno.end()
    wait_until(lambda: not redis.info("clients")["blocked_clients"])


@pytest.fixture
def nobody_answers(redis, environ, monkeypatch):
    """Where Redis should be is nothing, and all time limits are short."""
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    environ(REDIS_URL="redis://127.0.0.1:1/0")
    redis_io.shared.cache_clear()
    yield
    redis_io.shared.cache_clear()


@contextmanager
def served(app):
    """A real server of `app`; gives its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def call(url, method="GET"):
    """The status and the JSON of the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until_over(address, begun):
    """Ask for the status until the job is over."""
    answer = {}

    def is_over():
        answer.update(call(address + begun["status_url"])[1])
        return answer["state"] in ("finished", "failed", "canceled", "stopped")

    wait_until(is_over)
    return answer


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_is_under_40_lines(program):
    assert len(Path(program.__file__).read_text().splitlines()) < 40


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_numbers_are_added_by_the_workers_of_long_tasks(adding, worker, method, redis):
    code, begun = call(f"{adding}/add/-5/8", method)

    assert (code, until_over(adding, begun)) == (202, {"state": "finished", "result": 3})
    assert Job.fetch(begun["id"], connection=redis).origin == "long_tasks"


def test_a_result_is_kept_for_an_hour(adding, worker, redis):
    _, begun = call(f"{adding}/add/2/3")
    until_over(adding, begun)

    assert 3500 < redis.ttl(keys.job(begun["id"])) <= 3600


def test_a_task_is_started_and_its_result_is_shown(tasks, worker):
    code, begun = call(f"{tasks}/start_task/ab")

    assert (code, until_over(tasks, begun)) == (202, {"state": "finished", "result": "a-b"})


def test_a_job_that_waits_is_queued(tasks):
    _, begun = call(f"{tasks}/start_task/ab")

    assert call(tasks + begun["status_url"]) == (200, {"state": "queued"})


def test_a_job_that_failed_tells_why(tasks, work, redis):
    _, begun = call(f"{tasks}/start_task/ab")
    redis.hset(keys.job(begun["id"]), "data", json.dumps(["jobs.long.spell", None, [], {}]))
    work()
    answer = until_over(tasks, begun)

    assert answer["state"] == "failed"
    assert answer["error"].startswith("TypeError: spell() missing 1 required positional argument")


@pytest.mark.parametrize("path", ["/task_status/nobody", "/task_status/no:id", "/add/2/x", "/no"])
def test_what_is_not_there_is_404_in_json(adding, path):
    code, answer = call(adding + path)

    assert (code, list(answer)) == (404, ["error"])


def test_a_redis_that_is_away_is_503_in_json(tasks, nobody_answers):
    answer = {"error": "The queue does not answer.", "may_run": None}

    assert call(f"{tasks}/start_task/ab") == (503, answer)
    assert call(f"{tasks}/task_status/ab") == (503, answer)


def test_a_job_that_may_have_been_begun_is_named(redis, redis_address, environ, monkeypatch):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    with Cutter(redis_address) as cutter:
        environ(REDIS_URL=cutter.url)
        redis_io.shared.cache_clear()
        with served(start_task.app) as address:
            call(f"{address}/start_task/first")
            redis.delete(keys.queue("default"))
            cutter.cut_once("answered", 0)
            code, answer = call(f"{address}/start_task/ab")
        redis_io.shared().close()
        redis_io.shared.cache_clear()

    assert (code, redis.lrange(keys.queue("default"), 0, -1)) == (503, [answer["may_run"].encode()])


@pytest.mark.usefixtures("redis")
def test_one_command_starts_them_with_their_workers(tmp_path, environ):
    port = free_port(beside=100)
    environ(TASKS_PORT=str(port), ADDING_PORT=str(port + 100))
    with started(["-f", "examples/Procfile", "start"], tmp_path / "log") as said:
        wait_until(lambda: said().count("worker.started") == said().count("Serving on") == 2)
        _, spelling = call(f"http://127.0.0.1:{port}/start_task/a")
        _, adding = call(f"http://127.0.0.1:{port + 100}/add/2/3")

        assert until_over(f"http://127.0.0.1:{port}", spelling)["result"] == "a"
        assert until_over(f"http://127.0.0.1:{port + 100}", adding)["result"] == 5


@contextmanager
def started(words, log):
    """A honcho in the checkout, stopped as Ctrl-C stops it; gives what it has said so far."""
    path = f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "honcho", "-e", os.devnull, *words],
            cwd=CHECKOUT, env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=file, stderr=file,
        )  # fmt: skip
        try:
            yield log.read_text
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
