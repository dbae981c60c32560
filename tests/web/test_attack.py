"""Attacks on every page and every route: what a job carries, other sites, tokens that may not.

The routes are those of the app, so a new one is attacked, too.
"""

import ast
import html
import json
import re
import shlex
from urllib.parse import quote

import pytest

from jiffy import every, history, keys
from jiffy.control import pauses, read
from jobs import numbers
from tests.web.conftest import OWN, PARTS, TOKEN, addresses

# Each way in which a string could become code: tags, attributes, addresses, templates, scripts.
PAYLOADS = {
    "tag": "<img src=x onerror=window.hacked=1><svg onload=window.hacked=1>",
    "script": "</script><script>window.hacked=1</script>",
    "attribute": "\"'><img src=x onerror=window.hacked=1> onmouseover=window.hacked=1 x='\"",
    "template": "<%= window.hacked=1 %>{{ 7*7 }}${window.hacked=1}#{7*7}{% raw %}",
    "address": "javascript:window.hacked=1//%0a%0d<img src=x onerror=window.hacked=1>",
    "string": "'+(window.hacked=1)+'\"+(window.hacked=1)+\"`+(window.hacked=1)+`\\",
    "style": "</style><style>body{display:none}</style>;display:none;background:url(//evil.test)",
    "hidden": "\u202e\u2028\u0000\ufeff&lt;img src=x onerror=window.hacked=1&gt;",
}
ENDED = ("failed", "finished")
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
def poisoned(redis, plant, plant_worker, declare, leader):
    """A Redis in which every string is a payload: `poisoned(payload)`."""

    def poison(evil):
        queue, moment = evil.replace("/", "-"), redis.time()[0]
        declare(every("10m", numbers.add, args=[2, 3], name="JOB"))
        call = [evil, evil, [evil, {evil: evil}], {evil: evil, "password": evil}]
        texts = {"description": evil, "call": call, "worker_name": evil, "origin": queue}
        shown = {"meta": json.dumps({evil: [evil]}), keys.RELEASE_FIELD: evil,
                 keys.REASON_FIELD: evil, keys.TICK_OF_FIELD: evil, keys.MASKED_FIELD: evil,
                 keys.PROGRESS_FIELD: json.dumps({"fraction": 0.5, "note": evil}),
                 keys.LOG_FIELD: json.dumps([0, 1, [[moment, evil, evil, evil]]]),
                 "dependency_ids": json.dumps([evil]), "rate_limit_key": evil}  # fmt: skip
        error = f'Traceback:\n  File "{evil}", line 1, in {evil}\n    {evil}\n{evil}: {evil}'
        for state in (*read.STATES, "stopped", "rate_limited"):
            kind = {"error": error} if state in ("failed", "stopped") else {"result": {evil: evil}}
            plant(f"a-{state}", status=state, **kind, **texts, **shown)
        plant("JOB", status="failed", error=error, **texts, **shown)
        plant("odd", **dict.fromkeys({*read.JOB_FIELDS} - {"data"}, evil))
        plant_worker(evil, runs="a-started", **dict.fromkeys(read.WORKER_FIELDS[2:], evil)
                     | {"state": evil, keys.RELEASE_FIELD: evil, "queues": queue})  # fmt: skip
        redis.hset(keys.job("entry-JOB"), mapping={"description": evil, "origin": queue})
        pauses.pause(queue="low", why="a reason")
        pause = {"who": evil, "why": evil, "since": moment, "until": None}
        redis.hset(keys.PAUSED, mapping={f"queue:{queue}": json.dumps(pause),
                                         f"func:{evil}": json.dumps(pause)})  # fmt: skip
        redis.hset(keys.entry_state("entry-JOB"), "paused", json.dumps(pause))
        redis.lpush(keys.ticks("entry-JOB"), f"s|{moment}|0|||{evil}", f"t|{moment}|0|{evil}|5|")
        minute = keys.history(f"now:{moment // 60 - 1}")
        redis.hset(minute, mapping={f"{what} 3 4 {evil}\n{queue}": 9 for what in history.ENDS})
        return queue

    return poison


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "names", ["tag script style", "attribute template", "address string hidden"]
)
def test_no_string_becomes_code_on_any_page(browser, app, poisoned, names):
    evil = "".join(PAYLOADS[name] for name in names.split())
    queue = poisoned(evil)
    said = []
    browser.on("dialog", lambda dialog: said.append("dialog"))
    browser.on("request", lambda request: said.append(request.url) if "evil" in request.url and
               "127.0.0.1" not in request.url else None)  # fmt: skip
    of_job = [f"/jobs/a-{state}" for state in (*read.STATES, "stopped")]
    typed = [f"/jobs?q={quote(evil)}", f"/new?function={quote(evil)}", f"/new?job={quote(evil)}",
             f"/?span={quote(evil)}", f"/queues/{quote(queue)}", f"/login?next={quote(evil)}",
             f"/failures?far={quote(evil)}", f"/jobs/all?q={quote(evil)}&action={quote(evil)}",
             f"/new?function=jobs.numbers.add&arg.a={quote(evil)}&opt.queue={quote(evil)}",
             f"/queues?sort={quote(evil)}",
             *(f"/rq/0/view/jobs/{quote(queue)}/{state}/8/asc/1" for state in ENDED),
             *(f"/rq/0/view/job/{job_id}" for job_id in ("a-finished", "odd"))]  # fmt: skip
    for path in [*addresses(app), *of_job, "/jobs/odd", *typed]:
        if not path.endswith((".json", ".ico")) and not path.startswith(("/api", "/metrics")):
            browser.goto(path)
            if path.startswith("/rq"):  # scripts fill these
                browser.wait_for_load_state("networkidle")

            assert browser.evaluate("window.hacked") is None, path
            assert browser.locator(PLANTED).count() == 0, path
            assert browser.evaluate("getComputedStyle(document.body).display") != "none", path
    assert said == []


PLANTED = "img[src=x], svg[onload], [onerror], [onload], a[href^='javascript:' i], [onmouseover]"


def routes(app):
    """(method, address, endpoint) of all that may change something."""
    urls = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        for method in rule.methods & UNSAFE:
            parts = {**PARTS, "action": "retry"}
            path = urls.build(rule.endpoint, {one: parts[one] for one in rule.arguments}, method)
            yield method, path, rule.endpoint


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost.evil.example"},
    {"Referer": "https://evil.example/?http://localhost/"},
    {},
]


@pytest.mark.browser
@pytest.mark.parametrize(
    "odd", ["ก" + "้" * 200, "👩‍" * 60, "ᄀ" * 150], ids=["marks", "joined", "jamo"]
)
@pytest.mark.parametrize("width", [1200, 390])
def test_what_no_line_can_be_broken_in_widens_no_page(browser, plant, redis, odd, width):
    """Combining marks belong to one letter, however many they are."""
    queue = odd[:80]
    redis.sadd(keys.QUEUES, keys.queue(queue))
    error = f"Traceback (most recent call last):\nValueError: {odd}"
    plant("failed", call=["jobs.a", None, [odd], {}], description=odd, status="failed", error=error)
    plant("queued", origin=queue, status="queued", **{"jiffy:progress": json.dumps(
        {"fraction": 0.5, "note": odd})})  # fmt: skip
    browser.set_viewport_size({"width": width, "height": 800})
    wide = {}
    for path in ("/", "/jobs", "/failures", "/queues", "/jobs/failed", "/jobs/queued"):
        browser.goto(path)
        ends = "all => Math.max(0, ...all.map(one => one.getBoundingClientRect().right))"
        end = browser.eval_on_selector_all("tr", ends)
        wide[path] = max(end, browser.evaluate("document.documentElement.scrollWidth"))

    assert {path: end for path, end in wide.items() if end > width} == {}


def test_another_sites_page_changes_nothing(app, client, world):
    """Its requests carry the cookie; even one that knows the page's token is refused."""
    before = world()
    for method, path, endpoint in routes(app):
        for headers in FOREIGN:
            with client.session_transaction() as session:
                token = session["token"]
            answers = [
                client.open(path, method=method, headers=headers, data={"token": token}),
                client.open(path, method=method, headers=headers, json={}),
            ]
            refused = {400, 401, 403, 405, 415, 422} if endpoint.startswith("api.") else {403}
            assert {answer.status_code for answer in answers} <= refused, (path, headers)
    for method, path, _ in routes(app):
        assert client.open(path, method=method, headers=OWN).status_code in (401, 403), path
    assert world() == before


def test_neither_a_stranger_nor_a_get_nor_a_token_for_reading_changes_anything(
    app, environ, world, stranger, client
):
    environ(API_READ_TOKEN="reads")
    before = world()
    reading = {"Authorization": "Bearer reads"}
    assert stranger.get("/api/jobs/JOB", headers=reading).status_code == 200
    for method, path, _ in routes(app):
        answers = [
            stranger.open(path, method=method, headers=OWN, data={"token": ""}),
            stranger.open(path, method=method, headers={"Authorization": f"Bearer {TOKEN}x"}),
            stranger.open(path, method=method, headers={"Authorization": "Basic eDp5"}, json={}),
        ]
        assert {answer.status_code for answer in answers} <= {302, 401, 403}, path
        read = stranger.open(path, method=method, headers=reading, json={})
        assert read.status_code == (403 if path.startswith(("/api/", "/login")) else 302), path
        words = {"_method": method, "ids": "JOB", "action": "delete", "token": "x"}
        override = {"X-HTTP-Method-Override": method}
        got = client.get(path, headers=override, query_string=words)
        assert got.status_code in (200, 302, 400, 401, 404, 405, 409, 422), path
    assert world() == before


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/auth.py", "/static//etc/passwd", "/static/..%5capp.py",
     "/rq/static/..%2f..%2fweb.py", "//evil.example/", "/\\evil.example", "/%2fevil.example",
     "/jobs/..%2f..%2fapi", "/queues/../login", "/jobs/%00", "/jobs/%ff", "/queues/%ff%00",
     "/failures/%3Cb%3E", "/schedule/%ed%a0%80", "/jobs?q=%ff&from=9.9.99999999999",
     "/jobs?from=-1.0.0", "/jobs?q=" + "a%20" * 2000, "/?span=x", "/rq/0/view/job/%0a",
     "/jobs/all?action=%00&q=", "/queues/" + "x" * 3000, "/api/jobs/" + "y" * 3000],
)  # fmt: skip
def test_an_odd_address_is_refused_in_words(client, path):
    answer = client.get(path)

    assert answer.status_code in (200, 302, 308, 400, 401, 403, 404, 414, 422)
    assert "Traceback" not in answer.text
    assert "root:" not in answer.text
    location = answer.headers.get("Location", "/").removeprefix("http://localhost/") or "/"
    assert not location.startswith(("//", "/\\", "http:", "https:"))


NAMES = [
    "a; touch /tmp/hacked #", "$(touch hacked)", "`touch hacked`", "'; touch hacked; '", "a b", "*",
    "--redis-url=redis://evil.example", "-n", "a\x15touch hacked\n", "a\x1b[201~\x03", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_command_to_paste_is_one_command_whatever_a_queue_is_called(
    client, redis, plant, plant_worker, name
):
    plant("one", status="queued", origin=name)
    plant_worker("elsewhere", queues="other")
    pause = {"who": "me", "why": "tea", "since": 1, "until": None}
    paths = ["/", "/jobs/one", f"/queues/{quote(name)}"]
    texts = [client.get(path).text for path in paths]
    redis.hset(keys.PAUSED, f"queue:{name}", json.dumps(pause))
    client.application.extensions["jiffy.census"].forget()
    texts += [client.get(path).text for path in paths[:2]]
    found = {
        html.unescape(one)
        for text in texts
        for one in re.findall("<code>([^<]*jiffy [^<]*)</code>", text)
    }

    assert len(found) == 2  # start a worker; resume
    for command in found:
        *_, word = words = [one for one in shlex.split(command) if one != "--"]
        assert command.isprintable()
        assert len(words) in (4, 5, 6)
        assert word == name or not name.isprintable()
        assert not word.startswith("-") or f"-- {word}" in command or "-- '" in command


CALLS = [
    {"a=1)\nimport os; os.system('touch hacked') #": 1}, {"a b": {"c": "'"}}, {"class": 1, "x": 2},
    {"": None}, {"\u202e": "\x1b\x9b\x15"}, {"x": "'; touch hacked; '", "y": "$(touch hacked)`x`"},
]  # fmt: skip


@pytest.mark.parametrize("kwargs", CALLS, ids=range(len(CALLS)))
def test_a_call_to_paste_is_that_call_whatever_its_arguments_are_called(client, plant, kwargs):
    plant("one", call=["jobs.numbers.add", None, ["'; touch hacked #"], kwargs])
    text = client.get("/jobs/one").text
    copied = {
        what: html.unescape(re.search(rf'id="copy-{what}"[^>]*>(.*?)</pre>', text, re.DOTALL)[1])
        for what in ("Python", "curl")
    }
    _, called = ast.parse(copied["Python"]).body
    arguments = [ast.literal_eval(one) for one in called.value.args]
    named = {}
    for one in called.value.keywords:
        value = ast.literal_eval(one.value)
        named |= {one.arg: value} if one.arg else value
    words = shlex.split(copied["curl"])

    assert (arguments, named) == (["jobs.numbers.add", "'; touch hacked #"], kwargs)
    assert copied["curl"].isprintable()
    assert json.loads(words[words.index("-d") + 1])["kwargs"] == kwargs
