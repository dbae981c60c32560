"""A web process opens few connections to Redis, whatever is asked of it, and closes idle ones."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from jiffy import keys
from tests.support.newcomer import PATIENCE_S, wait_until
from tests.support.ports import free_port
from tests.web.conftest import PASSWORD, TOKEN, USER

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# As `python dashboard.py`, but idle connections are closed sooner.
PROGRAM = """
import dashboard
from jiffy import redis_io
from jiffy.dashboard import serve
redis_io.IDLE_S = 0.5
serve(dashboard.app)
"""
BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
CALL = json.dumps({"function": "jobs.numbers.add", "args": [5, 3]})


def test_forty_requests_at_a_time_use_four_connections_and_leave_none(serving, redis):
    redis.hset(keys.job("long"), mapping={"status": "queued", "origin": "default"})
    before = {one["id"] for one in redis.client_list()}  # what earlier tests have left open
    with serving() as port:
        cookie = log_in(port)
        requests = [
            lambda: ask(port, "GET", "/", headers=cookie),
            lambda: ask(port, "GET", "/rq/0/data/queues.json", headers=cookie),
            lambda: ask(port, "GET", "/api/jobs/long/wait?timeout=2", headers=BEARER),
            lambda: ask(port, "POST", "/api/jobs", CALL, BEARER),
            lambda: ask(port, "GET", "/healthz"),
        ]
        with ThreadPoolExecutor(40) as pool, watching(redis, before) as counts:
            answers = [pool.submit(requests[number % 5]) for number in range(200)]
            statuses = [answer.result()[0] for answer in answers]
        wait_until(lambda: not others(redis, before))

    # 429: more than six at a time of the one who is logged in; 503: on a slow machine none was free
    assert {200, 202} <= {*statuses} <= {200, 202, 429, 503}
    assert 1 <= max(counts) <= 4


def test_a_request_that_finds_no_free_connection_is_answered_with_503(serving, redis):
    with serving(WEB_CONNECTIONS="2") as port, ThreadPoolExecutor(6) as pool:
        server = redis.info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
        try:
            asked = [pool.submit(ask, port, "GET", "/api/schedule", None, BEARER) for _ in range(6)]
            wait_until(lambda: sum(answer.done() for answer in asked) == 4)
        finally:
            os.kill(server, signal.SIGCONT)
        answers = [answer.result() for answer in asked]

    refused = [json.loads(body)["detail"] for status, body in answers if status == 503]
    assert sorted(status for status, _ in answers) == [200, 200, 503, 503, 503, 503]
    assert {detail.partition(" (")[2] for detail in refused} == {
        "all connections of this process are in use). Try again, or raise WEB_CONNECTIONS."
    }


@pytest.fixture
def serving(redis, tmp_path):
    """A real web process: `with serving(WEB_CONNECTIONS="2") as port`."""

    @contextmanager
    def serve(**environ):
        port = free_port()
        environ |= {"PORT": str(port), "API_TOKEN": TOKEN, "DASHBOARD_PASSWORD": PASSWORD}
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=log, stderr=log,
                env=os.environ | environ,
            )  # fmt: skip
        try:
            wait_until(lambda: answers(port))
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
        assert "Traceback" not in (tmp_path / "log").read_text()

    return serve


@contextmanager
def watching(redis, before):
    """How many connections others have, again and again; Redis may notice that one was closed just
    after the next was opened."""
    counts, is_over = [0], threading.Event()

    def watch():
        last = set()
        while not is_over.wait(0.005):
            now = {one["id"] for one in others(redis, before)}
            counts.append(len(now & last))
            last = now

    thread = threading.Thread(target=watch)
    thread.start()
    yield counts
    is_over.set()
    thread.join()


def others(redis, before):
    return [
        one
        for one in redis.client_list()
        if one["id"] not in before and not one["name"].startswith("jiffy:test:")
    ]


def answers(port):
    try:
        return ask(port, "GET", "/healthz")[0] == 200
    except OSError:
        return False


def ask(port, method, path, body=None, headers=None):
    """(status, body) of the answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as web:
        web.request(method, path, body, headers or {})
        answer = web.getresponse()
        return answer.status, answer.read()


def log_in(port):
    """The headers of a browser that has."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as web:
        web.request("GET", "/login")
        page = web.getresponse()
        token = re.search(r'name="token" value="([^"]+)"', page.read().decode())[1]
        form = urllib.parse.urlencode({"token": token, "user": USER, "password": PASSWORD})
        headers = {
            "Cookie": page.headers["Set-Cookie"].partition(";")[0],
            "Origin": f"http://127.0.0.1:{port}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        web.request("POST", "/login", form, headers)
        return {"Cookie": web.getresponse().headers["Set-Cookie"].partition(";")[0]}
