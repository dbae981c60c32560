"""Waiting for a job over HTTP, and canceling, retrying and stopping it; the queues."""

import json
import socket
import threading
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest

from jiffy import keys
from jiffy.dashboard import api as routes
from tests.support.newcomer import wait_until
from tests.web.conftest import TOKEN
from tests.web.test_api import ADD


@pytest.fixture
def enqueue(api):
    """Enqueue a job: `enqueue(queue="low")`; returns its address."""
    return lambda **options: api("POST", "/api/jobs", json=ADD | options).json["status_url"]


@contextmanager
def ahead(act):
    """Let `act` happen meanwhile; yields the list that its answer comes to."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    yield answers
    thread.join()


def has_looked(redis):
    """Whether a request that waits has looked at its job since the statistics were reset."""
    return "cmdstat_xread" in redis.info("commandstats")


def test_waiting_ends_as_soon_as_the_job_is_over(api, redis, enqueue, work):
    address = enqueue()
    redis.config_resetstat()
    with ahead(lambda: api("GET", f"{address}/wait?timeout=60")) as answers:
        wait_until(lambda: has_looked(redis))
        work()

    assert (answers[0].json["state"], answers[0].json["result"]) == ("finished", 8)
    assert "Retry-After" not in answers[0].headers


@pytest.mark.parametrize("timeout", ["0", "0.2", "0.1s"])
def test_waiting_ends_with_the_state_that_the_job_has_then(api, enqueue, timeout):
    answer = api("GET", f"{enqueue()}/wait?timeout={timeout}")

    assert (answer.status_code, answer.json["state"]) == (200, "queued")


@pytest.mark.parametrize("status", ["finished", "failed", "canceled", "odd"])
def test_what_is_over_is_not_waited_for(api, plant, status):
    plant("job1", status=status)

    assert api("GET", "/api/jobs/job1/wait?timeout=60").json["state"] == status


@pytest.mark.parametrize("key", [keys.job, keys.results])
def test_a_wait_for_a_job_whose_keys_hold_something_else_is_answered(api, redis, enqueue, key):
    address = enqueue()
    job_id = address.rpartition("/")[2]
    redis.set(key(job_id), "odd")
    answer = api("GET", f"{address}/wait?timeout=60")

    assert (answer.status_code, answer.json["id"]) == (200, job_id)
    assert answer.json["problems"]


def test_waiting_opens_no_pickle(api, redis, plant, work, pickled):
    job_id, mark = pickled
    redis.hset(keys.job(job_id), "status", "started")
    shown = api("GET", f"/api/jobs/{job_id}/wait?timeout=1").json

    assert shown["id"] == job_id
    assert not mark.exists()


@pytest.mark.parametrize("timeout", ["61", "-1", "soon", "", "1h", "nan", "1e1", "60.5"])
def test_a_wait_that_is_too_long_or_none_is_422(api, enqueue, timeout):
    answer = api("GET", f"{enqueue()}/wait?timeout={timeout}")

    assert answer.status_code == 422
    assert answer.json["detail"].startswith(f"timeout is {timeout!r}; it must be seconds")


def test_when_too_many_wait_the_next_gets_the_state_and_a_retry_after(api, enqueue):
    address = enqueue()
    for _ in range(routes.MOST_WAITING):
        routes._slots.acquire()
    try:
        answer = api("GET", f"{address}/wait?timeout=60")
    finally:
        routes._slots.release(routes.MOST_WAITING)

    assert (answer.json["state"], answer.headers["Retry-After"]) == ("queued", "2")


def test_a_request_that_has_waited_frees_its_slot(api, enqueue):
    address = enqueue()
    answers = [api("GET", f"{address}/wait?timeout=0") for _ in range(2 * routes.MOST_WAITING)]

    assert all("Retry-After" not in answer.headers for answer in answers)


def test_a_client_that_disconnects_frees_its_slot(live, api, redis, enqueue):
    address, server = urlsplit(enqueue()).path, urlsplit(live)
    head = f"GET {address}/wait?timeout=60 HTTP/1.1\r\nHost: {server.netloc}\r\n"
    head += f"Authorization: Bearer {TOKEN}"
    with ExitStack() as lines:
        for _ in range(routes.MOST_WAITING):
            line = socket.create_connection((server.hostname, server.port))
            lines.enter_context(line).sendall(f"{head}\r\n\r\n".encode())
        wait_until(lambda: routes._slots._value == 0)
        was_full, blocked = has_retry_after(api, address), redis.info("clients")

    assert was_full
    assert blocked["blocked_clients"] == 0  # each would hold a connection
    wait_until(lambda: not has_retry_after(api, address))


def has_retry_after(api, address):
    return "Retry-After" in api("GET", f"{address}/wait?timeout=0").headers


def test_a_queued_job_is_canceled(api, enqueue, work):
    address = enqueue()
    answer = api("DELETE", address)

    assert (answer.status_code, answer.json["state"]) == (200, "canceled")
    assert work() == 0


def test_a_running_job_is_not_canceled_but_the_answer_says_stop_it(api, plant):
    plant("job1", status="started")
    answer = api("DELETE", "/api/jobs/job1")

    assert answer.status_code == 409
    assert answer.json["detail"] == "Job 'job1' is started. Stop it instead."


def test_a_canceled_job_is_tried_again(api, enqueue, work):
    address = enqueue()
    api("DELETE", address)
    answer = api("POST", f"{address}/retry")
    work()

    assert (answer.status_code, answer.json["state"]) == (202, "queued")
    assert api("GET", address).json["result"] == 8


def test_a_running_job_is_stopped_by_its_worker(api, redis, plant):
    plant("job1", status="started", worker_name="w1")
    with redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(f"{keys.RQ}pubsub:w1")
        heard.get_message(timeout=None)
        answer = api("POST", "/api/jobs/job1/stop")

        assert b"job1" in heard.get_message(timeout=None)["data"]
    assert (answer.status_code, answer.json["state"]) == (202, "started")


def test_a_worker_that_does_not_listen_is_409(api, plant):
    plant("job1", status="started", worker_name="w1")
    answer = api("POST", "/api/jobs/job1/stop")

    assert answer.status_code == 409
    assert "'w1', which runs job 'job1', does not respond" in answer.json["detail"]


@pytest.mark.parametrize(
    ("action", "status"), [("retry", "finished"), ("stop", "queued"), ("stop", "failed")]
)
def test_what_the_state_does_not_allow_is_409_in_words(api, plant, action, status):
    plant("job1", status=status)
    answer = api("POST", f"/api/jobs/job1/{action}")

    assert answer.status_code == 409
    assert answer.json["detail"].startswith(f"Job 'job1' is {status}. ")


@pytest.mark.parametrize(
    "call",
    [
        ("GET", "/api/jobs/nope/wait"), ("DELETE", "/api/jobs/nope"),
        ("POST", "/api/jobs/nope/retry"), ("POST", "/api/jobs/nope/stop"),
    ],
)  # fmt: skip
def test_a_job_that_is_not_there_is_404_in_the_same_words(api, call):
    answer = api(*call)

    assert answer.status_code == 404
    assert answer.json["detail"].startswith("No job 'nope'. Finished jobs are deleted after ")


def test_the_queues_are_listed_with_their_jobs_and_workers(api, plant, plant_worker, redis):
    plant("a", status="queued")
    plant("b", status="failed")
    plant("c", status="queued", origin="low")
    plant_worker("w1", queues="default,low")
    plant_worker("w2", queues="low")
    shown = api("GET", "/api/queues").json
    default, low = shown["queues"]

    assert (default["name"], default["workers"], low["workers"]) == ("default", 1, 2)
    assert (default["counts"]["queued"], default["counts"]["failed"]) == (1, 1)
    assert low["counts"]["finished"] == 0
    assert (shown["suspended"], shown["left_out"]) == (False, [])


def test_the_queues_say_that_all_is_suspended(api, redis):
    redis.set(keys.SUSPENDED, 1)

    assert api("GET", "/api/queues").json["suspended"]


@pytest.mark.parametrize(
    "result",
    [b"1e999", b"Infinity", b'{"rate": NaN}', b"[" * 5000 + b"]" * 5000, b"NaN", b"9" * 5000],
)
def test_a_result_that_json_cannot_carry_is_left_out_with_a_problem(api, plant, result):
    plant("job1", result=result)
    answer = api("GET", "/api/jobs/job1")

    assert answer.status_code == 200
    assert answer.json["result"] is None
    assert [words.split()[0] for words in answer.json["problems"]] == ["result"]
    json.loads(answer.data, parse_constant=pytest.fail)


@pytest.mark.parametrize("depth", [200, 201, 940])
def test_a_result_may_be_as_deep_as_it_likes(api, client, plant, depth):
    plant("job1", result=b"[" * depth + b"]" * depth)

    assert bool(api("GET", "/api/jobs/job1").json["problems"]) == (depth > 200)
    assert client.get("/jobs/job1").status_code == 200
    assert client.get("/rq/0/data/job/job1.json").status_code == 200


def test_a_queue_and_a_function_are_paused_and_resumed(api, redis):
    disk = {"queue": "low", "why": "the disk is full", "who": "ann"}
    api("POST", "/api/pauses", json=disk)
    bug = {"function": "jobs.numbers.add", "why": "a bug", "until": "2h"}
    paused = api("POST", "/api/pauses", json=bug).json

    assert [(one["kind"], one["name"], one["who"]) for one in paused] == [
        ("queue", "low", "ann"), ("function", "jobs.numbers.add", "the API"),
    ]  # fmt: skip
    assert api("GET", "/api/pauses").json == paused
    assert api("POST", "/api/pauses/resume", json={"queue": "low"}).json == paused[1:]


@pytest.mark.parametrize("body", [{}, {"queue": "low", "function": "jobs.numbers.add"}])
def test_a_pause_of_neither_or_both_is_refused(api, body):
    assert api("POST", "/api/pauses", json=body | {"why": "a bug"}).status_code == 422
