"""Several users with roles, single sign-on, and attempts to log in that are slowed down."""

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from itertools import islice, product

import pytest
from click.testing import CliRunner
from flask import Blueprint

from jiffy import actions, enqueue, every, keys
from jiffy.cli import commands
from jiffy.dashboard import api as routes
from jiffy.dashboard import auth, create_app
from jiffy.dashboard.api import MOST_WAITING
from jiffy.dashboard.auth import (
    ATTACK,
    KEPT_MS,
    MOST_AT_ONCE,
    SAFE_METHODS,
    STRANGERS_AT_ONCE,
)
from jiffy.dashboard.server import API_THREADS, THREADS, Server
from jiffy.redis_io import now
from jiffy.settings import settings
from jobs import numbers
from tests.support.newcomer import wait_until
from tests.web.conftest import OWN, PASSWORD, addresses, log_in, post

PROXY = {"environ_base": {"REMOTE_ADDR": "10.0.0.1"}}


@pytest.fixture(scope="module")
def hashes():
    """The entries of ann and bob in DASHBOARD_USERS, as our command prints them."""
    entries = [_entry("ann"), _entry("bob", "--role", "viewer")]
    return ",".join(entries)


def _entry(*words):
    return CliRunner().invoke(commands.user, words, input=f"{PASSWORD}\n").stdout.strip()


@pytest.fixture
def people(redis, environ, hashes):
    """An app with these settings: `people(READ_ONLY="yes")`; ann is an operator, bob a viewer."""

    def make(pages=(), **more):
        environ(DASHBOARD_USERS=hashes, API_TOKEN="all", API_READ_TOKEN="reads", **more)
        return create_app(pages)

    return make


def test_each_user_logs_in_with_a_hash_that_no_shell_changes(people, hashes):
    app = people()
    statuses = [log_in(app.test_client(), user=name).status_code for name in ("ann", "bob", "eve")]

    assert statuses == [302, 302, 401]
    assert log_in(app.test_client(), user="ann", password=PASSWORD[:-1]).status_code == 401
    assert re.fullmatch("[\\w:/,.]+", hashes)
    assert PASSWORD not in hashes


def test_a_session_ends_when_its_user_is_removed_and_a_role_changes_at_once(
    people, environ, hashes
):
    client = people().test_client()
    log_in(client, user="ann")
    cookie = client.get_cookie(_cookie())
    environ(DASHBOARD_USERS=hashes.replace("ann:operator", "ann:viewer"))
    demoted = create_app().test_client()
    demoted.set_cookie(cookie.key, cookie.value)
    environ(DASHBOARD_USERS=hashes.partition(",")[2])
    removed = create_app().test_client()
    removed.set_cookie(cookie.key, cookie.value)

    assert (demoted.get("/").status_code, removed.get("/").status_code) == (200, 302)
    assert post(demoted, "/functions/pause", function="jobs.x", why="y").status_code == 403


@pytest.mark.parametrize("who", ["viewer", "header", "read-only", "read token"])
def test_a_viewer_changes_nothing_by_any_route(people, redis, plant, who):
    """Each route with each method that is not safe, with all that a page of ours would send."""
    plant("x", status="failed", error="boom")
    app = people(
        READ_ONLY="yes" if who == "read-only" else "no",
        **({"AUTH_HEADER": "X-User", "TRUSTED_PROXIES": "1"} if who == "header" else {}),
    )
    client, headers = app.test_client(), {"Origin": "http://localhost"}
    if who == "header":
        headers |= {"X-User": "bob"}
        client.get("/", headers=headers, **PROXY)
    elif who != "read token":
        log_in(client, user="ann" if who == "read-only" else "bob")
    before, answers = _dump(redis), {}
    with client.session_transaction() as session:
        token = session.get("token", "")
    for rule in app.url_map.iter_rules():
        for method, (path, is_api) in product(rule.methods - SAFE_METHODS, [_path(app, rule)]):
            if rule.endpoint in ("login.enter", "login.leave") or is_api != (who == "read token"):
                continue
            sent = {"json": {}} if is_api else {"data": {"token": token, "action": "retry"}}
            own = {"Authorization": "Bearer reads"} if is_api else headers
            answer = client.open(path, method=method, headers=own, **sent, **PROXY)
            answers[f"{method} {path}"] = answer.status_code

    assert {path: status for path, status in answers.items() if status != 403} == {}
    assert len(answers) > 8
    assert _dump(redis) == before


def test_actions_are_shown_to_operators_only(people, plant, plant_worker, declare, hashes):
    """On every page; and none shows a password's hash."""
    declare(every("10m", numbers.add, args=[2, 3], name="JOB"))
    plant("JOB", status="failed", error="ValueError: boom")
    plant_worker("JOB", runs="y")
    app, shown = people(), {"ann": set(), "bob": set()}
    clients = {name: app.test_client() for name in shown}
    for name, client in clients.items():
        log_in(client, user=name)
    for name, path in product(shown, addresses(app)):
        answer = clients[name].get(path)
        assert answer.status_code < 500, path
        assert not any(entry.rpartition("/")[2] in answer.text for entry in hashes.split(","))
        shown[name] |= set(re.findall('method="post" action="([^"]*)"', answer.text))
        shown[name] |= set(re.findall('"([a-z-]+-btn)"', answer.text))  # of rq-dashboard

    assert shown["bob"] == {"/logout"}
    assert len(shown["ann"]) >= 12
    assert {"empty-btn", "delete-job-btn", "requeue-job-btn"} < shown["ann"]


def test_no_one_takes_all_threads(people):
    """As many requests as one or two people like: those of others are answered meanwhile."""
    begun, over, page = threading.Semaphore(0), threading.Event(), Blueprint("slow", __name__)

    @page.get("/slow")
    def slow():
        begun.release()
        return {"is_over": over.wait(60)}

    count, most = 3 * THREADS, MOST_AT_ONCE

    def hold(ask, pool, name, expected):
        asked = [pool.submit(ask, name, "/slow") for _ in range(count)]
        assert all(begun.acquire(timeout=60) for _ in range(expected))
        assert len([*islice(as_completed(asked, 60), count - expected)]) == count - expected
        return asked

    with (
        _asking(people(pages=[page])) as ask,
        ThreadPoolExecutor(3 * count) as pool,
        ExitStack() as end,
    ):
        end.callback(over.set)
        asked = hold(ask, pool, "bob", most)
        others = [ask("ann", path) for path in ("/queues", "/healthz")]
        refused = ask("bob", "/queues")
        asked += hold(ask, pool, "ann", 1)
        health = ask("ann", "/healthz")
        over.set()
        answers = Counter(one.result() for one in asked)
        again = ask("bob", "/queues")

        over.clear()
        asked = [pool.submit(ask, "ann", "/slow")]
        begun.acquire(timeout=60)
        asked += hold(ask, pool, "bob", most // 2) + hold(ask, pool, "ann", most // 2 - 1)
        over.set()
        shares = Counter(one.result() for one in asked)

    assert [*others, refused, again] == [(200, None), (200, None), (429, "2"), (200, None)]
    assert health == (200, None)
    assert answers == {(200, None): most + 1, (429, "2"): 2 * count - most - 1}
    assert shares == {(200, None): most, (429, "2"): 2 * count + 1 - most}


def test_who_logs_in_again_and_again_leaves_threads_to_the_others(people):
    """A password takes a tenth of a second: of strangers together three wait, of one person six."""
    app, count = people(), 3 * THREADS
    known = app.test_client()
    log_in(known, user="ann")
    post(known, "/logout")
    with ThreadPoolExecutor(2 * count) as pool, ExitStack() as held:
        held.enter_context(auth._hashing)
        asked = [
            pool.submit(log_in, app.test_client(), user=f"eve{number}") for number in range(count)
        ]
        refused = [one.result() for one in islice(as_completed(asked), count - STRANGERS_AT_ONCE)]
        healthy = app.test_client().get("/healthz").status_code
        asked = [pool.submit(log_in, _copy(app, known), user="ann") for _ in range(count)]
        refused += [one.result() for one in islice(as_completed(asked), count - MOST_AT_ONCE)]
        held.close()

    assert {(one.status_code, one.headers["Retry-After"]) for one in refused} == {(429, "2")}
    assert "requests to log in are in progress" in refused[0].text
    assert "recovers" not in refused[0].text
    assert healthy == 200
    assert 1 <= [one.result().status_code for one in asked].count(302) <= MOST_AT_ONCE


def _copy(app, client):
    """A browser with the cookie of another."""
    other = app.test_client()
    other.set_cookie(_cookie(), client.get_cookie(_cookie()).value)
    return other


def test_a_token_for_reading_takes_not_all_threads_either(people):
    """Nor those that wait for jobs, together with others that read: they have their own.

    It takes no turn of people's, either.
    """
    begun, over, page = threading.Semaphore(0), threading.Event(), Blueprint("slow", __name__)

    @page.get("/slow")
    @page.get("/api/slow")
    def slow():
        begun.release()
        return {"is_over": over.wait(60)}

    job_id = enqueue(numbers.add, 5, 3).id
    wait = f"/api/jobs/{job_id}/wait?timeout=60"
    with (
        _asking(people(pages=[page])) as ask,
        ThreadPoolExecutor(2 + MOST_AT_ONCE + MOST_WAITING) as pool,
        ExitStack() as end,
    ):
        end.callback(over.set)
        waiting = [pool.submit(ask, "reads", wait) for _ in range(MOST_WAITING)]
        wait_until(lambda: routes._slots._value == 0 and not auth._programs)
        asked = [pool.submit(ask, "reads", "/api/slow") for _ in range(MOST_AT_ONCE)]
        asked += [pool.submit(ask, name, "/slow") for name in ("ann", "bob")]
        assert all(begun.acquire(timeout=60) for _ in asked)
        refused = [ask("reads", path) for path in ("/api/queues", wait)]
        healthy = ask("bob", "/healthz")
        actions.cancel(job_id)
        late = [one.result() for one in waiting]
        over.set()
        answers = [one.result() for one in asked]
        again = ask("reads", wait)

    assert refused == [(429, "2")] * 2
    assert late == [(429, "2")] * MOST_WAITING
    assert [healthy, again, *answers] == [(200, None)] * (4 + MOST_AT_ONCE)


def test_who_may_change_something_does_not_wait_behind_any_number_of_others(people, monkeypatch):
    """Where the requests of these have all threads that they can have, or wait for their turn."""
    monkeypatch.setattr(auth, "_PATIENCE_S", 60)
    over, page = threading.Event(), Blueprint("slow", __name__)
    page.get("/api/slow")(lambda: {"is_over": over.wait(60)})
    count = 2 * API_THREADS
    with (
        _asking(people(pages=[page])) as ask,
        ThreadPoolExecutor(count) as pool,
        ExitStack() as end,
    ):
        end.callback(over.set)
        asked = [pool.submit(ask, "reads", "/api/slow") for _ in range(count)]
        wait_until(lambda: len(auth._counting._waiters) == API_THREADS - MOST_AT_ONCE)
        served = [ask("all", path) for path in ("/api/queues", "/metrics")]
        over.set()
        answers = [one.result() for one in asked]

    assert served == [(200, None)] * 2
    assert answers == [(200, None)] * count


@pytest.mark.parametrize("path", ["/api/queues", "/metrics"])
def test_people_do_not_wait_behind_a_program_that_asks_for_much(people, path):
    begun, over, app = threading.Semaphore(0), threading.Event(), people()

    def slow():
        begun.release()
        return {"is_over": over.wait(60)}

    [endpoint] = [rule.endpoint for rule in app.url_map.iter_rules() if rule.rule == path]
    app.view_functions[endpoint] = slow
    count = 2 * API_THREADS
    with (
        _asking(app) as ask,
        ThreadPoolExecutor(count) as pool,
        ExitStack() as end,
    ):
        end.callback(over.set)
        asked = [pool.submit(ask, "all", path) for _ in range(count)]
        assert all(begun.acquire(timeout=60) for _ in range(API_THREADS))
        others = [ask("ann", path) for path in ("/", "/queues", "/healthz")]
        over.set()
        answers = [one.result() for one in asked]

    assert others == [(200, None)] * 3
    assert answers == [(200, None)] * count  # none is refused


@contextmanager
def _asking(app):
    """A real server: `ask("bob", "/")` is the status and Retry-After that its user gets."""
    headers = {name: {"Authorization": f"Bearer {name}"} for name in ("all", "reads")}
    server = Server(app, "127.0.0.1", 0)
    for name in ("ann", "bob"):
        log_in(client := app.test_client(), user=name)
        headers[name] = {"Cookie": f"{_cookie()}={client.get_cookie(_cookie()).value}"}
    serving = threading.Thread(target=server.run)
    serving.start()

    def ask(name, path):
        with closing(HTTPConnection("127.0.0.1", server.effective_port, timeout=60)) as connection:
            connection.request("GET", path, headers=headers[name])
            answer = connection.getresponse()
            return answer.status, answer.getheader("Retry-After")

    try:
        yield ask
    finally:
        server.stop()
        serving.join()


@pytest.mark.parametrize(
    ("header", "peer", "status"),
    [
        ("ann", "10.0.0.1", 200),
        ("carol", "10.0.0.1", 200),  # by *:viewer
        ("ann, bob", "10.0.0.1", 403),  # a client has sent one, too
        (None, "10.0.0.1", 302),
        ("ann", "8.8.8.8", 403),
        ("ann", "::ffff:8.8.8.8", 403),
    ],
)
def test_a_proxy_vouches_for_users_and_no_one_else_does(people, environ, header, peer, status):
    environ(
        AUTH_HEADER="X-Forwarded-User", TRUSTED_PROXIES="1", DASHBOARD_USERS="ann:operator,*:viewer"
    )
    client = create_app().test_client()
    headers = {"X-Forwarded-For": "1.2.3.4"} | ({"X-Forwarded-User": header} if header else {})
    answer = client.get("/", headers=headers, environ_base={"REMOTE_ADDR": peer})

    assert answer.status_code == status


def test_by_single_sign_on_no_later_answer_takes_a_message_away(redis, environ):
    """Each answer that sets the cookie would put back what it was when its request was sent."""
    environ(AUTH_HEADER="X-Forwarded-User", TRUSTED_PROXIES="1", DASHBOARD_USERS="*:operator")
    client = create_app().test_client()
    headers = {"X-Forwarded-User": "ann"}
    first, second = (client.get("/jobs", headers=headers, **PROXY) for _ in range(2))

    assert "Set-Cookie" in first.headers
    assert "Set-Cookie" not in second.headers


def test_who_is_called_as_the_user_with_the_password_is_not_that_one(redis, environ):
    environ(
        AUTH_HEADER="X-Forwarded-User", TRUSTED_PROXIES="1",
        DASHBOARD_USERS="ann:operator,*:viewer", DASHBOARD_PASSWORD=PASSWORD,
    )  # fmt: skip
    client = create_app().test_client()
    pages = [
        client.get("/", headers={"X-Forwarded-User": name}, **PROXY) for name in ("ann", "admin")
    ]

    assert ["read-only" in page.text for page in pages] == [False, True]


def test_a_namesake_at_the_proxy_neither_logs_the_user_out_nor_takes_their_turns(
    redis, environ, monkeypatch
):
    environ(
        AUTH_HEADER="X-Forwarded-User", TRUSTED_PROXIES="1",
        DASHBOARD_USERS="*:viewer", DASHBOARD_PASSWORD=PASSWORD,
    )  # fmt: skip
    monkeypatch.setattr(auth, "MOST_AT_ONCE", 1)
    # A request amid another one of its thread ends the turn of neither.
    monkeypatch.setattr(auth, "_people", Counter())
    own = Blueprint("own", __name__)
    own.get("/own")(lambda: str(user.get("/").status_code))  # the user's request, amid this one
    app = create_app([own])
    user, namesake = app.test_client(), app.test_client()
    log_in(user)
    headers = {"X-Forwarded-User": "admin"}
    namesake.get("/new?function=jobs.numbers.add", headers=headers, **PROXY)
    left = post(namesake, "/logout", headers=headers | OWN, **PROXY)

    assert left.status_code == 302
    assert namesake.get("/own", headers=headers, **PROXY).text == "200"
    for name in ("API_TOKEN", "API_READ_TOKEN"):  # as which a program stands in the audit
        assert namesake.get("/", headers={"X-Forwarded-User": name}, **PROXY).status_code == 403


def test_without_the_setting_no_header_lets_anyone_in(people):
    client = people().test_client()

    assert client.get("/", headers={"X-Forwarded-User": "ann"}).status_code == 302


@pytest.fixture
def attempt(redis, environ, monkeypatch):
    """Try to log in behind a proxy that names the client's address: `attempt("1.2.3.4")`.

    The first pause is so long that none is over before the next attempt.
    """
    monkeypatch.setattr(auth, "FIRST_PAUSE_MS", 60_000)
    environ(DASHBOARD_PASSWORD=PASSWORD, TRUSTED_PROXIES="1")
    app = create_app()

    def send(address, password="guess", client=None, user="admin"):
        client, headers = client or app.test_client(), {"X-Forwarded-For": address}
        client.get("/login", headers=headers)
        with client.session_transaction() as session:
            form = {"token": session["token"], "user": user, "password": password}
        return client.post("/login", data=form, headers=headers | OWN)

    return send


@pytest.mark.parametrize("sent", ["9.9.9.{}", '"{}', '2001:db8:{}::1%"'])
def test_guesses_slow_down_who_guesses_and_no_one_else(attempt, sent):
    forged = [attempt(f"{sent.format(number)}, 6.6.6.6") for number in range(8)]

    assert [one.status_code for one in forged] == [401] * 5 + [429] * 3
    assert (
        attempt("6.6.6.6", PASSWORD).status_code == 429
    )  # or waiting would cost a guesser nothing
    assert attempt("7.7.7.7", PASSWORD).status_code == 302
    network = [attempt(f"2001:db8::{number}").status_code for number in range(6)]
    assert network == [401] * 5 + [429]


def test_who_must_wait_takes_no_ones_turn(people, monkeypatch):
    monkeypatch.setattr(auth, "FIRST_PAUSE_MS", 60_000)
    app, most = people(), STRANGERS_AT_ONCE

    def guess(user):
        return log_in(app.test_client(), user=user, password="guess")

    for _ in range(5):
        guess("ann")
    with ThreadPoolExecutor(most + 1) as pool, auth._hashing:
        asked = [pool.submit(guess, f"eve{number}") for number in range(most + 1)]
        next(as_completed(asked))  # refused: the others are in progress
        answer = guess("ann")

    assert "Too many wrong passwords" in answer.text


@pytest.mark.parametrize("address", ["6.6.6.{}:{}", "[2001:db8:{}::7]:{}"])
def test_a_gateway_may_write_the_clients_port_behind_its_address(attempt, address):
    guesses = [attempt(address.format(6, 5000 + number)).status_code for number in range(6)]

    assert guesses == [401] * 5 + [429]
    assert attempt(address.format(7, 5000)).status_code == 401


def test_what_is_no_address_does_not_fill_the_audit(attempt, redis):
    """Of the address `[…]:1` there are as many as anyone likes, and as long."""
    attempt(f"[2001:db8::1]:{'1' * 60_000}")

    assert redis.memory_usage(keys.audit("refused")) < 5000


def test_a_browser_that_was_logged_in_before_does_not_wait_for_others_at_its_address(attempt, app):
    known = app.test_client()
    assert attempt("5.5.5.5", PASSWORD, known).status_code == 302
    post(known, "/logout")
    for number in range(20):  # many users, so that none has had its five attempts
        attempt("5.5.5.5", user=f"user{number}")

    assert attempt("5.5.5.5", PASSWORD).status_code == 429
    assert attempt("5.5.5.5", PASSWORD, known).status_code == 302


def test_however_many_addresses_guess_each_new_one_has_an_attempt(attempt):
    for number in range(ATTACK):
        attempt(f"4.4.{number}.4")

    assert [attempt("3.3.3.3").status_code for _ in range(2)] == [401, 429]
    assert attempt("2.2.2.2", PASSWORD).status_code == 302


def test_a_pause_doubles_up_to_a_limit_and_a_right_password_ends_it(attempt, redis, monkeypatch):
    monkeypatch.setattr(auth, "FIRST_PAUSE_MS", 1000)
    for wait_s in [0] * 4 + [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]:
        began = now(redis)
        assert attempt("6.6.6.6").status_code == 401
        left = [redis.pttl(key) - KEPT_MS for key in redis.keys(keys.attempts("*"))]
        passed_s = (now(redis) - began).total_seconds()
        assert -0.01 <= wait_s - max(left) / 1000 <= passed_s + 0.01
        for key in redis.keys(keys.attempts("*")):
            redis.pexpire(key, KEPT_MS)  # the pause is over

    assert attempt("6.6.6.6", PASSWORD).status_code == 302
    assert attempt("6.6.6.6").status_code == 401


def _dump(redis):
    kept = (f"{keys.OWN}attempts:", f"{keys.OWN}audit:")
    return {key: redis.dump(key) for key in redis.scan_iter() if not key.decode().startswith(kept)}


def _path(app, rule):
    samples = {
        "instance_number": 0, "per_page": 8, "page": 1, "order": "asc", "queue_name": "default",
        "registry_name": "failed", "action": "retry",
    }  # fmt: skip
    values = {name: samples.get(name, "x") for name in rule.arguments}
    path = app.url_map.bind("localhost").build(rule.endpoint, values, sorted(rule.methods)[0])
    return path, path.startswith("/api/")


def _cookie():
    return f"jiffy-{settings().port}"
