"""The web app for tests: a client that is logged in, one that is not, a live server, a browser."""

import base64
import json
import pickle
import threading
import zlib
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import flask
import jinja2
import pytest
from rq.executions import Execution
from rq.utils import now, utcformat
from werkzeug.routing import Rule

from jiffy import clock, every, keys, redis_io
from jiffy.dashboard import create_app, frame
from jiffy.dashboard.server import Server
from jiffy.settings import settings
from jobs import numbers
from tests.support import schedules
from tests.support.browser import launch
from tests.support.newcomer import PATIENCE_S

USER, PASSWORD, TOKEN = "admin", "correct horse", "a-token"
SECRET_KEY = "a key that only tests of the dashboard know"
OWN = {"Origin": "http://localhost"}  # what a browser sends from a page of ours


@pytest.fixture(autouse=True)
def secret_key(environ):
    """Else one would be made, and kept in this checkout."""
    environ(SECRET_KEY=SECRET_KEY)


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Templates and routes are compiled once, not again for each app: most of a test's time."""
    cache = jinja2.FileSystemBytecodeCache(tmp_path_factory.mktemp("templates"))
    compile_builder, builders = Rule._compile_builder, {}

    def compile_once(rule, append_unknown=True):
        key = rule.rule, str(rule.defaults), append_unknown
        if key not in builders:
            builders[key] = compile_builder(rule, append_unknown)
        return builders[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask.Flask, "jinja_options", {"bytecode_cache": cache})
        patch.setattr(Rule, "_compile_builder", compile_once)
        yield


@pytest.fixture
def app(redis, environ, monkeypatch):
    environ(DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=TOKEN)
    monkeypatch.setattr(redis_io, "_is_web", False)  # it is so again when the test is over
    yield create_app()
    redis_io.shared.cache_clear()


@pytest.fixture
def stranger(app):
    """A browser that has not logged in."""
    return app.test_client()


@pytest.fixture
def client(app):
    """A browser that has."""
    client = app.test_client()
    log_in(client)
    return client


@pytest.fixture
def api(app):
    """Call the API with its token: `api("GET", "/api/jobs/x")`."""

    def call(method, path, **options):
        headers = {"Authorization": f"Bearer {TOKEN}"} | options.pop("headers", {})
        return app.test_client().open(path, method=method, headers=headers, **options)

    return call


@pytest.fixture
def same_second(monkeypatch):
    """What pages keep for a second is kept for as long as the test takes."""
    moment = clock.monotonic()
    stopped = SimpleNamespace(monotonic=lambda: moment, now=clock.now)
    monkeypatch.setattr(frame, "clock", stopped)


@pytest.fixture
def no_redis(app, environ, monkeypatch):
    """From here on, nothing answers where Redis should be, and all time limits are short."""
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    environ(REDIS_URL="redis://:secret@127.0.0.1:1/0", DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=TOKEN)
    redis_io.shared.cache_clear()
    yield
    redis_io.shared.cache_clear()


@pytest.fixture
def live(app):
    """The address of a real server of `app`."""
    server = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.stop()
    thread.join()
    server.trigger.close()


@pytest.fixture(scope="module")
def chromium():
    """One for all tests of a module: starting it costs more than most of them."""
    with launch() as browser:
        yield browser


@contextmanager
def logged_in(chromium, live, client, has_scripts=True, has_touch=False):
    """A page of a real browser, which has the client's cookie."""
    cookie = client.get_cookie(cookie_name())
    options = {"java_script_enabled": has_scripts, "has_touch": has_touch}
    with chromium.new_context(base_url=live, **options) as context:
        context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": live}])
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        yield page


@pytest.fixture
def browser(chromium, live, client):
    """A page of a real browser, logged in, on the first page."""
    with logged_in(chromium, live, client) as page:
        page.goto("/")
        yield page


@pytest.fixture
def plant(redis):
    """Write jobs into Redis as anybody could who reaches it: `plant("id", status="failed", …)`.

    Each stands in the list of its state; `result` and `error` go into its stream, as RQ's do.
    """

    def write(job_id, *, call=("jobs.numbers.add", None, [5, 3], {}), data=None, result=None,
              error=None, status="finished", origin="default", **fields):  # fmt: skip
        moment = utcformat(now())
        known = {"created_at": moment, "enqueued_at": moment, "description": "a job"}
        data = json.dumps(call).encode() if data is None else data
        redis.hset(
            keys.job(job_id),
            mapping=known
            | {"data": zlib.compress(data), "status": status, "origin": origin}
            | fields,
        )
        _enlist(redis, job_id, status, origin)
        if result is not None or error is not None:
            _add_result(redis, job_id, result, error)
        return job_id

    return write


@pytest.fixture
def plant_worker(redis):
    """Write a worker into Redis: `plant_worker("name", state="busy", runs="job id")`."""

    def write(name, runs=None, **fields):
        moment = utcformat(now())
        known = {"state": "idle", "queues": "default", "birth": moment, "last_heartbeat": moment}
        redis.sadd(keys.WORKERS, keys.WORKER + name)
        redis.hset(keys.WORKER + name, mapping=known | fields)
        for queue in fields.get("queues", "default").split(","):
            redis.sadd(keys.workers_of(queue), keys.WORKER + name)
        if runs:
            execution = Execution("an-execution", runs, redis, name)
            execution.save(60)
            redis.sadd(execution.worker_executions_key, execution.composite_key)

    return write


@pytest.fixture
def plant_flow(redis):
    """As if supervisors had looked every ten seconds: `plant_flow({"low": [(waiting, ended), …]})`,
    the oldest look first, the last one now.
    """

    def write(queues):
        count, now_s = len(next(iter(queues.values()))), redis.time()[0]
        totals = Counter()
        for number in range(count):
            at = now_s - 10 * (count - 1 - number)
            for name, looks in queues.items():
                totals[name] += looks[number][1]
            look = at, {name: looks[number][0] for name, looks in queues.items()}, {"1": totals}
            redis.lpush(keys.history("samples"), zlib.compress(json.dumps(look).encode()))

    return write


@pytest.fixture
def world(redis, plant, plant_worker, declare):
    """Something of all that could be changed; returns what there is."""
    declare(every("10m", numbers.add, args=[2, 3], name="JOB"))
    plant("JOB", status="failed", error="boom")
    plant("next", status="queued")
    plant_worker("JOB")

    def state():
        ours = {key: redis.dump(key) for key in redis.scan_iter()}
        return {key: raw for key, raw in ours.items()
                if not key.startswith((keys.SESSIONS.encode(), b"jiffy:history", b"jiffy:login",
                                       b"jiffy:audit", b"jiffy:attempts"))}  # fmt: skip

    return state


@pytest.fixture
def declare(redis):
    """Put a schedule in force: `declare(every("10m", numbers.add))`."""
    return partial(schedules.declare, redis)


@pytest.fixture
def leader(redis):
    """A scheduler that runs."""
    redis.set(keys.LEADER, json.dumps({"who": "scheduler.1:7", "token": "t"}))


@pytest.fixture
def pickled(plant, plant_worker, tmp_path):
    """(job id, path): a job that writes a file at `path` as soon as any part of it is unpickled."""
    path = tmp_path / "executed"
    trap = pickle.dumps(Trap(path))
    call = pickle.dumps(("jobs.numbers.add", None, (Trap(path),), {}))
    plant("trap", data=call, result=trap, meta=trap, description="numbers.add(<Trap>)")
    plant("trap2", data=call, result=trap, meta=trap, status="failed", error="boom")
    plant_worker("holder", state="busy", runs="trap")
    return "trap", path


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def cookie_name():
    return f"jiffy-{settings().port}"


def log_in(client, path="/login", **fields):
    """Fill in the form and send it."""
    client.get("/login")
    return post(client, path, **({"user": USER, "password": PASSWORD} | fields))


def post(client, path, headers=OWN, **fields):
    """Send a form of a page of ours, with its token."""
    with client.session_transaction() as session:
        token = session.get("token", "")
    return client.post(path, data={"token": token} | fields, headers=headers)


def _enlist(redis, job_id, status, origin):
    redis.sadd(keys.QUEUES, keys.queue(origin))
    if status == "started":
        redis.zadd(keys.REGISTRIES["started"] + origin, {f"{job_id}:execution": 9e9})
    elif status in keys.REGISTRIES:
        redis.zadd(keys.REGISTRIES[status] + origin, {job_id: 9e9})
    else:
        redis.rpush(keys.queue(origin), job_id)


def _add_result(redis, job_id, result, error):
    entry = {"type": 1 if error is None else 2}
    if result is not None:
        raw = result if isinstance(result, bytes) else json.dumps(result).encode()
        entry["return_value"] = base64.b64encode(raw)
    if error is not None:
        entry["exc_string"] = base64.b64encode(zlib.compress(error.encode()))
    redis.xadd(keys.results(job_id), entry)


# What the addresses of routes are filled with; a new name of a part must be added here.
PARTS = {
    "job_id": "JOB", "name": "JOB", "key": "GROUP", "queue_name": "default", "instance_number": 0,
    "registry_name": "finished", "per_page": 100, "order": "asc", "page": 1,
}  # fmt: skip
# GETs that are no pages, or none without more; and one that waits.
_NO_PAGES = {"static", "rq_dashboard.static", "rq_dashboard.favicon", "rq_dashboard.requeue_all",
             "api.wait_for_job", "login.form", "jobs.all_matching"}  # fmt: skip
_MORE = [
    "/jobs?q=args.a:7+ab", "/jobs?q=state:failed+error:boom", "/?span=7d", "/?span=90d",
    "/jobs/all?q=state:failed&action=retry", "/failures?far=1", "/failures/GROUP?trial=JOB",
    "/new?job=JOB", "/new?function=jobs.numbers.add",
    "/rq/0/data/jobs/default/queued/100/dsc/1.json",
]  # fmt: skip


def addresses(app):
    """Of all pages, lists and answers that can be got; of a job or an entry, JOB is its name."""
    urls = app.url_map.bind("localhost")
    rules = [rule for rule in app.url_map.iter_rules()
             if "GET" in rule.methods and rule.endpoint not in _NO_PAGES]  # fmt: skip
    built = [
        "/queues/default" if rule.endpoint == "queues.queue"
        else urls.build(rule.endpoint, {name: PARTS[name] for name in rule.arguments}, "GET")
        for rule in rules
    ]  # fmt: skip
    return [*dict.fromkeys([*built, *_MORE])]
