"""The JSON API, as a program in any language sees it."""

import json
import re
import subprocess
import sys

import pytest
import rq

from jiffy import Retry, SimpleWorker, enqueue, keys, redis_io
from jiffy.producer import options
from jiffy.producer.enqueue import Queue
from jiffy.producer.masking import MASK
from jobs import images, numbers
from tests.jobs import worker as worker_jobs
from tests.support.cutting import Cutter
from tests.web.conftest import PASSWORD, TOKEN

ADD = {"function": "jobs.numbers.add", "args": [5, 3]}


def test_a_job_is_enqueued_and_its_result_is_shown(api, work):
    answer = api("POST", "/api/jobs", json=ADD)
    work()
    shown = api("GET", answer.json["status_url"]).json

    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json["status_url"]
    assert (shown["state"], shown["result"], shown["error"]) == ("finished", 8, None)
    assert (shown["id"], shown["function"], shown["queue"]) == (
        answer.json["id"],
        ADD["function"],
        "default",
    )
    assert shown["times"]["ended"].endswith("Z")


def test_urls_name_the_host_as_the_client_does_with_an_underscore_too(api, environ):
    environ(ALLOWED_HOSTS="my_web")
    host = {"Host": "my_web:8000"}
    made = api("POST", "/api/jobs", json=ADD | {"job_id": "x"}, headers=host)

    assert made.json["status_url"] == "http://my_web:8000/api/jobs/x"
    servers = api("GET", "/api/openapi.json", headers=host).json["servers"]
    assert servers == [{"url": "http://my_web:8000"}]


def test_options_are_those_of_enqueue(api, redis):
    call = {"function": "jobs.numbers.add", "kwargs": {"x": 1, "y": 2}}
    options = {
        "queue": "low",
        "job_id": "mine",
        "timeout": "2m",
        "result_ttl": 60,
        "failure_ttl": "1d",
        "retry": 3,
        "at_front": True,
        "description": "adds",
        "meta": {"who": "me"},
    }
    answer = api("POST", "/api/jobs", json=call | options)
    stored = redis.hgetall(keys.job("mine"))

    assert answer.json["id"] == "mine"
    assert (stored[b"timeout"], stored[b"origin"], stored[b"retries_left"]) == (
        b"120",
        b"low",
        b"3",
    )
    assert json.loads(stored[b"meta"]) == {"who": "me"}


def test_a_retry_is_a_number_or_an_object(api, redis):
    retry = {"max": 3, "pause": "2s", "jitter": False, "on": ["TimeoutError"]}
    call = {"function": "jobs.numbers.add", "args": [1, 2], "job_id": "mine", "retry": retry}
    api("POST", "/api/jobs", json=call)
    stored = redis.hgetall(keys.job("mine"))

    assert json.loads(stored[b"retry_intervals"]) == [2, 4, 8]
    assert json.loads(stored[b"jiffy:retry"]) == {"on": ["TimeoutError"]}


@pytest.mark.parametrize(
    ("retry", "intervals"), [(3, [10, 20, 40]), ({"max": 3, "pause": 0}, [0, 0, 0])]
)
def test_a_retry_pauses_unless_it_says_otherwise(api, redis, retry, intervals):
    call = {"function": "jobs.numbers.add", "args": [1, 2], "job_id": "mine", "retry": retry}
    api("POST", "/api/jobs", json=call)

    assert json.loads(redis.hget(keys.job("mine"), "retry_intervals")) == intervals


def test_without_docstrings_the_api_is_described_all_the_same():
    program = "from jiffy.dashboard import api, openapi; print(*openapi.document('')['paths'])"
    command = [sys.executable, "-OO", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "/api/jobs" in ended.stdout.split()


def test_every_option_of_enqueue_can_be_given(api):
    schemas = api("GET", "/api/openapi.json").json["components"]["schemas"]

    assert schemas["Call"]["properties"].keys() >= {name.rstrip("_") for name in options.TABLE}


def test_a_job_shows_its_error_or_progress(api, plant):
    progress = {"fraction": 0.4, "note": "row 8"}
    plant("bad", status="failed", error="Traceback …\nValueError: no card")
    plant("late", status="canceled", **{keys.REASON_FIELD: "It had not begun after 10m."})
    plant("runs", status="started", **{keys.PROGRESS_FIELD: json.dumps(progress)})
    bad, late, runs = (api("GET", f"/api/jobs/{name}").json for name in ("bad", "late", "runs"))

    assert (bad["state"], bad["result"]) == ("failed", None)
    assert bad["error"].endswith("ValueError: no card")
    assert (late["state"], late["error"]) == ("canceled", "It had not begun after 10m.")
    assert runs["progress"] == progress


def test_a_job_that_waits_says_for_what(api, work):
    job = enqueue.options(retry=Retry(3, pause="1m"))(images.resize, "missing.jpg", 200)
    later = enqueue.options(in_="5m", retry=3)(numbers.add, 2, 3)
    after = enqueue.options(depends_on=later)(numbers.add, 2, 3)
    queued = api("GET", f"/api/jobs/{job.id}").json
    work()
    shown = api("GET", f"/api/jobs/{job.id}").json

    assert queued["waits_for"] is None
    assert (shown["state"], shown["waits_for"], shown["retries_left"]) == ("scheduled", "retry", 2)
    assert shown["error"].splitlines()[-1].startswith("ValueError: ")
    assert shown["times"]["due"] > shown["times"]["ended"]
    assert api("GET", f"/api/jobs/{later.id}").json["waits_for"] == "time"
    assert api("GET", f"/api/jobs/{after.id}").json["waits_for"] == "jobs"


@pytest.mark.parametrize("kind", [rq.SimpleWorker, SimpleWorker])
def test_rqs_own_retries_and_repeats_are_distinguished(kind, api, redis, environ):
    environ(JOBS_MODULES="jobs,tests")
    queue = Queue(connection=redis)
    again = queue.enqueue(numbers.add, 2, "x", retry=rq.Retry(2, interval=60))
    repeated = queue.enqueue(
        numbers.add, 2, 3, repeat=rq.Repeat(2, interval=60), retry=rq.Retry(2, interval=60)
    )
    asked = queue.enqueue(worker_jobs.ask_for_a_retry, 2, 60)
    worker = kind([queue], connection=redis, serializer=queue.serializer)
    worker.work(burst=True, logging_level="CRITICAL")
    jobs = (again, asked, repeated)
    waits = [api("GET", f"/api/jobs/{job.id}").json["waits_for"] for job in jobs]

    assert waits == ["retry", "retry", "time"]


@pytest.mark.parametrize(
    ("address", "status"), [("/api/queues", 200), ("/api/jobs/none", 404), ("/api/nothing", 404)]
)
def test_an_answer_ends_with_a_newline(api, address, status):
    answer = api("GET", address)

    assert answer.status_code == status
    assert answer.text.endswith("}\n")


def test_metadata_is_shown_without_secrets(api):
    meta = {"order": 7, "card": {"token": "4711"}}
    made = api("POST", "/api/jobs", json=ADD | {"meta": meta})
    plain = api("POST", "/api/jobs", json=ADD)

    assert api("GET", made.json["status_url"]).json["meta"] == {"order": 7, "card": {"token": MASK}}
    assert api("GET", plain.json["status_url"]).json["meta"] == {}


@pytest.mark.parametrize("meta", [b"\x80pickled", "[1]", "{", '{"rate": NaN}', '{"a":' * 5000])
def test_metadata_that_cannot_be_shown_is_a_problem(api, plant, meta):
    plant("odd", meta=meta, result=8)
    shown = api("GET", "/api/jobs/odd").json

    assert (shown["meta"], shown["result"]) == ({}, 8)
    assert [words.split()[0] for words in shown["problems"]] == ["meta"]


def test_an_unknown_job_is_404_with_a_message(api):
    answer = api("GET", "/api/jobs/nope")

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert answer.json["detail"].startswith("No job 'nope'.")


@pytest.mark.parametrize(
    ("change", "detail", "pointer"),
    [
        ({"function": "jobs.number.add"}, "Did you mean 'jobs.numbers.add'?", "#/function"),
        ({"function": "jobs.images"}, "Did you mean 'jobs.images.resize'?", "#/function"),
        ({"function": "os.system", "args": ["true"]}, "is not under jobs", "#/function"),
        ({"function": None}, "function is None; it must be a path", "#/function"),
        ({"function": None, "func": "jobs.numbers.add"}, "(did you mean 'function'?).", "#/func"),
        ({"args": [5]}, "add() needs the argument 'y'", "#"),
        ({"args": [5, "x"]}, "jobs.numbers.add: y: expected a number, got 'x'.", "#"),
        ({"args": [], "kwargs": {"x": 1, "why": 2}}, "has no argument 'why'", "#"),
        ({"args": "5"}, "args is '5'; it must be a list.", "#/args"),
        ({"kwargs": []}, "kwargs is []; it must be an object.", "#/kwargs"),
        ({"que": "low"}, "(did you mean 'queue'?).", "#/que"),
        ({"job_timeout": 5}, "(did you mean 'timeout'?).", "#/job_timeout"),
        ({"id": "mine"}, "(did you mean 'job_id'?).", "#/id"),
        ({"in_": "5m"}, "(did you mean 'in'?).", "#/in_"),
        ({"a/b~c d": 1}, "option is 'a/b~c d'", "#/a~1b~0c%20d"),
        ({"x" * 900: 1}, "option is 'xxx", "#"),
        ({"queue": 5}, "queue is 5; it must be the name of a queue.", "#/queue"),
        ({"queue": ""}, "queue is ''; it must be the name of a queue.", "#/queue"),
        ({"retry": True}, "retry is True; it must be how many times to retry", "#/retry"),
        ({"retry": "3"}, "retry is '3'; it must be how many times to retry", "#/retry"),
        ({"retry": 1001}, "from 1 to 1000, or a Retry.", "#/retry"),
        ({"retry": {}}, "retry is {}; it must be an object with max", "#/retry"),
        ({"retry": {"max": 3, "pauze": 2}}, "must be an object with max", "#/retry"),
        ({"retry": {"max": 3, "self": 1}}, "must be an object with max", "#/retry"),
        ({"retry": {"max": 0}}, "retry.max is 0; it must be how many", "#/retry/max"),
        ({"retry": {"max": 3, "pause": "soon"}}, "pause is 'soon'", "#/retry/pause"),
        ({"retry": {"max": 3, "factor": 0}}, "factor is 0", "#/retry/factor"),
        ({"retry": {"max": 3, "on": [[]]}}, "on is []", "#/retry/on"),
        ({"timeout": "99999999999d"}, "timeout is '99999999999d'; it must be 100", "#/timeout"),
        ({"timeout": "soon"}, "timeout is 'soon'; it must be 0 or more seconds", "#/timeout"),
        ({"timeout": [1]}, "timeout is [1]; it must be 0 or more seconds", "#/timeout"),
        ({"in": "later"}, "in is 'later'; it must be 0 or more seconds", "#/in"),
        ({"in": -1}, "in is -1; it must be 0 or more seconds", "#/in"),
        ({"at": "tomorrow"}, "at is 'tomorrow'; it must be a time with its zone", "#/at"),
        ({"at": "2999-01-31T06:00:00"}, "it must be a time with its zone", "#/at"),
        ({"at_front": "yes"}, "at_front is 'yes'; it must be true or false", "#/at_front"),
        ({"job_id": "a b"}, "job_id is 'a b'; it must be letters", "#/job_id"),
        ({"in": "5m", "at": "2099-01-31T06:00:00Z"}, "given without in.", "#/at"),
        ({"in": "5m", "depends_on": "x"}, "in is '5m'; it must be given without dep", "#/in"),
        ({"depends_on": "x", "unique": "1h"}, "given without depends_on", "#/unique"),
        ({"on_success": "jobs.nope"}, "No function 'jobs.nope'", "#/on_success"),
        ({"on_failure": "os.system"}, "is not under jobs", "#/on_failure"),
        ({"on_stopped": 5}, "on_stopped is 5", "#/on_stopped"),
        ({"meta": 5}, "meta is 5; it must be a dict", "#/meta"),
        ({"job_id": "a" * 251}, "dashes, 250 at most", "#/job_id"),
        ({"rate_limit": {"key": "k" * 201, "concurrency": 1}}, "at most 200", "#/rate_limit"),
        ({"rate_limit": {"key": "k", "concurrency": 10**9}}, "such as 'stripe:5'", "#/rate_limit"),
        ({"unique": "1h", "unique_key": "k" * 201}, "of 1 to 200 characters", "#/unique_key"),
    ],
)
def test_an_invalid_call_is_422_with_the_reason_and_a_pointer(api, redis, change, detail, pointer):
    answer = api("POST", "/api/jobs", json=ADD | change)

    assert (answer.status_code, answer.json["pointer"]) == (422, pointer)
    assert detail in answer.json["detail"]
    assert redis.dbsize() == 0


def test_a_body_over_a_megabyte_is_413(api):
    answer = api("POST", "/api/jobs", json=ADD | {"description": "x" * 1024 * 1024})

    assert answer.status_code == 413


def test_an_id_that_is_taken_is_409(api):
    api("POST", "/api/jobs", json=ADD | {"job_id": "mine"})
    answer = api("POST", "/api/jobs", json=ADD | {"job_id": "mine"})

    assert answer.status_code == 409
    assert "already a job with the id 'mine'" in answer.json["detail"]


def test_a_session_of_the_dashboard_is_no_way_in(client):
    answer = client.post("/api/jobs", json=ADD, headers={"Origin": "http://localhost"})

    assert answer.status_code == 401


def test_an_unknown_path_is_404_with_the_known_ones(api):
    answer = api("GET", "/api/job")

    assert answer.status_code == 404
    assert "POST /api/jobs" in answer.json["detail"]


@pytest.mark.parametrize("call", [("POST", "/api/jobs"), ("GET", "/api/jobs/x")])
def test_without_redis_it_is_503_and_says_when_to_come_back(api, no_redis, call):
    method, path = call
    answer = api(method, path, **({"json": ADD} if method == "POST" else {}))

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "connection refused" in answer.json["detail"]


@pytest.fixture
def cutter(app, redis_address, environ, monkeypatch):
    """Between the app and Redis: a connection that can be cut.  Nothing is retried."""
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    with Cutter(redis_address) as cutter:
        environ(REDIS_URL=cutter.url, DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=TOKEN)
        redis_io.shared.cache_clear()
        yield cutter
        redis_io.shared().close()
    redis_io.shared.cache_clear()


def test_if_a_job_may_have_been_enqueued_the_answer_says_how_to_find_out(api, cutter, redis):
    api("POST", "/api/jobs", json=ADD)
    cutter.cut_once("answered", 0)
    answer = api("POST", "/api/jobs", json=ADD)
    [job_id] = re.findall(r"may have been enqueued, as '(.+?)'", answer.json["detail"])
    again = api("POST", "/api/jobs", json=ADD | {"job_id": job_id})

    assert (answer.status_code, again.status_code) == (503, 409)
    assert "Retry-After" not in answer.headers
    assert redis.llen(keys.queue("default")) == 2


def test_if_redis_fails_amid_many_jobs_the_answer_says_how_many_exist(api, cutter, redis):
    few, others = [ADD] * 3, [ADD | {"queue": "low"}] * 2
    api("POST", "/api/jobs", json=few)
    cutter.cut_once("answered", 0, passing=1)
    answer = api("POST", "/api/jobs", json=few + others)

    assert answer.status_code == 503
    assert "the first 3 calls are enqueued: the 2 under way may have been" in answer.json["detail"]
    assert "Retry-After" not in answer.headers
    assert redis.llen(keys.queue("default")) == 6


def test_each_function_is_listed_with_a_schema_that_its_calls_fit(api):
    listed = {one["function"]: one for one in api("GET", "/api/functions").json}
    add, resize = listed["jobs.numbers.add"], listed["jobs.images.resize"]

    number = {"anyOf": [{"type": "integer"}, {"type": "number"}]}
    assert add == {
        "function": "jobs.numbers.add",
        "signature": "add(x: int | float, y: int | float) -> int | float",
        "description": "Return the sum of two numbers.",
        "positional": ["x", "y"],
        "parameters": {
            "type": "object",
            "properties": {"x": number, "y": number},
            "required": ["x", "y"],
            "additionalProperties": False,
        },
    }
    assert resize["parameters"]["properties"]["height"]["default"] is None
    assert not [path for path in listed if not path.startswith("jobs.")]


def test_the_default_of_a_secret_is_masked(api, environ):
    environ(JOBS_MODULES="tests.jobs.plain")
    [login] = [one for one in api("GET", "/api/functions").json if "login" in one["function"]]
    wrong = api("POST", "/api/jobs", json={"function": login["function"]}).json["detail"]

    assert login["signature"] == "login(user: str, api_key: str = ***) -> None"
    assert "default" not in login["parameters"]["properties"]["api_key"]
    assert "It takes login(user: str, api_key: str = ***)" in wrong
