"""The page of a new job: a form made from a function's types and docstring."""

import re
from datetime import datetime, time

import pytest

from jiffy import keys
from jiffy.control import read
from jiffy.producer import functions
from jiffy.producer.enqueue import enqueue
from jobs import images, numbers
from tests.jobs import typed
from tests.web.conftest import logged_in, post


@pytest.fixture(autouse=True)
def allowed(environ):
    environ(JOBS_MODULES="jobs,tests.jobs.typed")


@pytest.fixture
def send(client, redis):
    """Fill in the form of a function: its answer, and the job that it made."""

    def send_it(function, **texts):
        sent = {f"opt.{name[4:]}" if name.startswith("opt_") else f"arg.{name}": text
                for name, text in texts.items()}  # fmt: skip
        answer = post(client, "/new", function=function, **sent)
        is_done = answer.status_code == 303
        return answer, read.job(redis, answer.location.rpartition("/")[2]) if is_done else None

    return send_it


def test_functions_are_found_by_a_part_of_their_name(client):
    everything = client.get("/new").text
    some = client.get("/new?function=resi").text
    none = client.get("/new?function=jobs.nothing.here")

    assert "jobs.numbers.add</a>" in everything
    assert "Return the sum of two numbers." in everything
    assert "Return <code>text</code> letter by letter, &#34;a-b-c&#34;" in everything
    assert re.findall(r"<a href=[^>]*>(jobs[^<]*)</a>", some) == [
        "jobs.cleanup.resized", "jobs.images.resize",
    ]  # fmt: skip
    assert none.status_code == 404
    assert "jobs.nothing.here" in none.text
    assert "jobs.numbers.add</a>" in none.text


def test_a_form_has_a_field_for_each_parameter_by_its_type(client):
    def field(function, name="it"):
        text = client.get(f"/new?function={function}").text
        return re.search(rf"<(\w+)(?: type=\"([\w-]+)\")?[^>]*name=\"arg.{name}\"", text).groups()

    typed_ = "tests.jobs.typed."
    assert field("jobs.images.resize", "path") == ("input", "text")
    assert field("jobs.images.resize", "width") == ("input", "number")
    assert field("jobs.numbers.add", "x") == ("input", "number")
    assert field(f"{typed_}moment") == ("input", "datetime-local")
    assert field(f"{typed_}day") == ("input", "date")
    assert field(f"{typed_}clock") == ("input", "time")
    assert field(f"{typed_}flag") == ("input", "checkbox")
    assert field(f"{typed_}size") == ("select", None)
    assert field(f"{typed_}color") == ("select", None)
    assert field(f"{typed_}order") == ("textarea", None)
    assert field(f"{typed_}untyped") == ("input", "text")
    assert "<code>photo.jpg</code>" in client.get("/new?function=jobs.images.resize").text
    assert 'value="30"' in client.get("/new?function=jobs.cleanup.resized").text


def test_every_function_has_a_form(client):
    paths = [*functions.all_paths(("jobs", "tests.jobs.typed"))]
    odd = {path: client.get(f"/new?function={path}").status_code for path in paths}

    assert {path for path, status in odd.items() if status != 200} == set()
    assert len(paths) > 40


ODD = """
from typing import Literal
from flask import request  # asked for its name, it fails outside of a request

class Odd:
    def __repr__(self): raise RuntimeError("unwritten")
    def __eq__(self, other): raise RuntimeError("uncompared")
    __hash__ = None

loop = []
loop.append(loop)
def fine(it: int = 1): pass
def default(it=Odd()): pass
def annotated(it: Odd(), *more: Odd()) -> Odd(): pass
def digits(it: int = 10 ** 5000): pass
def looped(it=loop): pass
def long(it="x" * 10_000_000): pass
def half(it="\\ud800", that: Literal["\\ud800"] = None): pass
half.__doc__ = "\\ud800"  # written as a docstring, Python 3.13 cannot compile it
def nan(it: float = float("nan")): pass
def unsigned(it): pass
unsigned.__signature__ = "none"
"""


def test_functions_with_odd_defaults_and_annotations_hide_no_others(
    client, api, environ, tmp_path, monkeypatch, redis
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_jobs.py").write_text(ODD)
    environ(JOBS_MODULES="odd_jobs")
    answer = api("GET", "/api/functions")
    listed = {one["function"].removeprefix("odd_jobs."): one["signature"] for one in answer.json}
    pages = {name: client.get(f"/new?function=odd_jobs.{name}").status_code for name in listed}
    sent = {"function": "odd_jobs.default", "args": [1, 2]}
    refused = api("POST", "/api/jobs", json=sent)
    unknown = api("POST", "/api/jobs", json={"function": "odd_jobs.defualt"})
    enqueued = api("POST", "/api/jobs", json={"function": "odd_jobs.annotated", "args": [1]})

    assert list(listed) == re.findall(r"(?m)^def (\w+)", ODD)
    assert listed["fine"] == "fine(it: int = 1)"
    assert listed["default"] == "default(it=…)"
    assert listed["annotated"] == "annotated(it: …, *more: …) -> …"
    assert set(pages.values()) == {200}
    assert client.get("/new?function=odd").status_code == 200
    assert len(answer.data) < 20_000
    assert b"NaN" not in answer.data
    assert "It takes default(it=…)" in refused.json["detail"]
    assert "Did you mean 'odd_jobs.default'" in unknown.json["detail"]
    assert enqueued.status_code == 202


@pytest.mark.parametrize(
    ("function", "texts", "args", "kwargs"),
    [
        ("jobs.numbers.add", {"x": "5", "y": "2.5"}, [5, 2.5], {}),
        ("jobs.images.resize", {"path": "5", "width": "", "height": "7"}, ["5", None, 7], {}),
        ("jobs.cleanup.resized", {"folder": "a", "days": ""}, ["a"], {}),
        ("jobs.mail.send", {"to": '["a@b.c"]', "subject": "s", "body": '"q"'},
         [["a@b.c"], "s", '"q"'], {}),
        ("tests.jobs.typed.day", {"it": "2030-01-31"}, ["2030-01-31"], {}),
        ("tests.jobs.typed.moment", {"it": "2030-01-31T06:30"}, ["2030-01-31T06:30:00"], {}),
        ("tests.jobs.typed.flag", {}, [False], {}),
        ("tests.jobs.typed.flag", {"it": "true"}, [True], {}),
        ("tests.jobs.typed.size", {"it": '"s"'}, ["s"], {}),
        ("tests.jobs.typed.size", {"it": ""}, [None], {}),
        ("tests.jobs.typed.point", {"it": '{"x": 1}'}, [{"x": 1}], {}),
        ("tests.jobs.typed.untyped", {"it": "[1"}, ["[1"], {}),
        ("tests.jobs.typed.untyped", {"it": "[1]"}, [[1]], {}),
        ("tests.jobs.typed.spread", {"days": '["2030-01-31"]', "named": '{"a": "1.5"}'},
         ["2030-01-31"], {"a": "1.5"}),
        ("tests.jobs.typed.spread", {"last": "2030-01-31"}, [], {"last": "2030-01-31"}),
    ],
)  # fmt: skip
def test_what_is_filled_in_becomes_the_call(send, function, texts, args, kwargs):
    answer, job = send(function, **texts)

    assert answer.status_code == 303, answer.text
    assert job.call.function == function
    assert ([*job.call.args], dict(job.call.kwargs)) == (args, kwargs)


@pytest.mark.parametrize(
    ("function", "texts", "wrong"),
    [
        ("jobs.numbers.add", {"x": "", "y": "two"},
         {"arg.x": "It must be filled in.", "arg.y": "It is &#39;two&#39;; it must be a number."}),
        ("tests.jobs.typed.order", {"it": '{"id": 7, "items": [}'},
         {"arg.it": "It is not JSON: Expecting"}),
        ("tests.jobs.typed.order",
         {"it": '{"id": "8c7fb3c6-4a2a-44f4-9a2a-0d4ad3a7e0aa", "items": [{"price": "x"}]}'},
         {"arg.it": "items[0].price is &#39;x&#39;; it must be a decimal."}),
        ("tests.jobs.typed.log_in", {"user": "ada", "password": "***"}, {"arg.password": "masked"}),
        ("jobs.numbers.add", {"x": "1", "y": "2", "opt_in": "soon"}, {"opt.in": "in is &#39;soon"}),
        ("jobs.numbers.add", {"x": "1", "y": "2", "opt_retry": "x"}, {"opt.retry": "retry is"}),
        ("jobs.numbers.add", {"x": "1", "y": "2", "opt_retry": "9" * 5000},
         {"opt.retry": "retry is"}),
        ("jobs.numbers.add", {"x": "1", "y": "2", "opt_on_success": "jobs.no"}, {}),
    ],
)  # fmt: skip
def test_what_is_refused_says_why_beside_its_field_and_loses_nothing(
    send, redis, function, texts, wrong
):
    answer, _ = send(function, **texts)
    fields = dict(re.findall(r'id="about-([\w.]+)"><strong>(.*?)</strong>', answer.text, re.DOTALL))

    assert answer.status_code == 422
    assert fields.keys() == wrong.keys()
    assert all(text in fields[name] for name, text in wrong.items())
    for text in texts.values():
        assert text.replace('"', "&#34;") in answer.text
    assert not redis.exists(keys.queue("default"))


def test_options_say_when_and_where(send, redis):
    before, _ = enqueue(numbers.add, 1, 2), enqueue(numbers.add, 3, 4)
    _, job = send("jobs.numbers.add", x="1", y="2", opt_queue="low", opt_at="2099-01-31T06:00",
                  opt_retry="3", opt_isolate="true", opt_job_id="mine")  # fmt: skip
    _, after = send("jobs.numbers.add", x="1", y="2", opt_depends_on=before.id)
    again, _ = send("jobs.numbers.add", x="1", y="2", opt_job_id="mine")

    assert (job.id, job.state, job.queue, job.retries) == ("mine", "scheduled", "low", 3)
    assert f"{job.due:%Y-%m-%d %H:%M}" == "2099-01-31 06:00"
    assert redis.hget(keys.job("mine"), keys.ISOLATE_FIELD) == b"yes"
    assert after.depends_on == (before.id,)
    assert again.status_code == 409
    assert "already a job with the id" in again.text


def test_a_job_is_run_again_with_changed_arguments(client, send, plant):
    job = enqueue.options(queue="low")(images.resize, "photo.jpg", 200, height=None)
    text = client.get(f"/new?job={job.id}").text
    plant("odd", call=["jobs.no.more", None, [], {}])
    login = enqueue(typed.log_in, "ada", 1234)

    assert f'href="/new?job={job.id}"' in client.get(f"/jobs/{job.id}").text
    assert re.findall(r'value="(photo.jpg|200|low)"', text) == ["photo.jpg", "200", "low"]
    assert client.get("/new?job=odd").status_code == 404
    assert client.get("/new?job=gone").status_code == 404
    assert "Fill in what is masked" in client.get(f"/new?job={login.id}").text


def test_a_link_changes_nothing_of_a_job_that_is_run_again(client):
    job = enqueue.options(queue="low")(numbers.add, 5, 3)
    more = "&arg.x=99999&opt.queue=high&opt.timeout=1"
    texts = [client.get(f"/new?job={job.id}{link}").text for link in ("", more)]
    plain, link = (re.findall(r'<input[^>]* name="(?:arg|opt)\.[^>]*>', one) for one in texts)

    assert "s arguments, queue and other options" in texts[1]
    assert 'value="5"' in link[0]
    assert link == plain


def test_of_a_job_that_is_run_again_it_is_said_what_is_not_copied(client, plant):
    plant("old", rate_limit_key="stripe", rate_limit_concurrency="5")
    again, new = (
        client.get(f"/new?{query}").text for query in ("job=old", "function=jobs.numbers.add")
    )

    assert ("what it depended on is not" in again, "depended on" in new) == (True, False)


def test_no_secret_of_a_default_is_shown(client, api):
    function = "tests.jobs.typed.look_up"
    [listed] = [one for one in api("GET", "/api/functions").json if one["function"] == function]

    assert "look_up(at: 'Server' = ***, key: 'Key' = ***," in listed["signature"]
    assert listed["parameters"]["$defs"]["Server"]["properties"]["host"]["default"] == "db.example"
    assert "hunter2" not in f"{listed}{client.get(f'/new?function={function}').text}"


def test_a_default_that_is_a_secret_is_taken_where_nothing_is_filled_in(send, environ):
    environ(JOBS_MODULES="tests.jobs.plain")
    _, job = send("tests.jobs.plain.login", user="ada", api_key="")

    assert job.call.args == ("ada",)


def test_what_a_job_carries_comes_back_as_it_was(client, send):
    texts = {"it": 'a\n "<script>" &amp; 5'}
    _, job = send("tests.jobs.typed.untyped", **texts)
    number = enqueue(typed.untyped, "5")
    text = client.get(f"/new?job={job.id}").text

    assert job.call.args == (texts["it"],)
    assert ">\na\n &#34;&lt;script&gt;&#34; &amp;amp; 5</textarea>" in text
    assert 'value="&#34;5&#34;"' in client.get(f"/new?job={number.id}").text


AGAIN = [
    (typed.moment, datetime.fromisoformat("2030-01-31T06:00:00.123456")),
    (typed.moment, datetime.fromisoformat("2030-01-31T06:00:00+01:00")),
    (typed.clock, time(6, 0, 0, 5)),
    (typed.untyped, "a\nb"),
    (typed.either, "\na"),
    (numbers.add, 1e22),
]


@pytest.mark.browser
def test_a_job_that_is_run_again_as_it_was_has_the_same_arguments(chromium, live, client, redis):
    """A field of dates holds no microseconds and no zones, and a browser ends lines by \\r\\n."""
    changed = []
    with logged_in(chromium, live, client) as page:
        for function, value in AGAIN:
            job = enqueue(function, *[value] * (2 if function is numbers.add else 1))
            page.goto(f"/new?job={job.id}")
            page.click("button:has-text('Enqueue')")
            page.wait_for_selector(".done:has-text('Enqueued')")
            old, new = (read.job(redis, one).call for one in (job.id, page.inner_text("#id")))
            changed += [(old, new)] if old != new else []

    assert changed == []


@pytest.mark.browser
def test_a_double_click_makes_one_job(browser):
    browser.goto("/new?function=jobs.numbers.add&arg.x=1&arg.y=2")
    sent = browser.evaluate("""() => {
        const form = document.getElementById("new-job"), sent = [];
        document.addEventListener("submit", (event) => {
            sent.push(event.defaultPrevented);
            event.preventDefault();
        });
        form.requestSubmit();
        form.requestSubmit();
        return sent;
    }""")

    assert sent == [False, True]


def test_what_a_form_cannot_hold_is_named_and_no_other_choice_is_made(client, plant):
    plant("gone", call=["tests.jobs.typed.color", None, ["green"], {}])
    plant("lines", call=["tests.jobs.typed.untyped", None, ["a\r\nb"], {}])
    choice, lines = (client.get(f"/new?job={job_id}").text for job_id in ("gone", "lines"))

    assert "&#34;green&#34; is no choice any more" in choice
    assert '<option value="">' in choice
    assert "Your browser makes" in lines


@pytest.mark.parametrize(
    ("given", "named"),
    [({"most": None}, "null"), ({"mode": None}, "null"), ({"what": ""}, "&#34;&#34;"),
     ({"most": 5, "mode": "old", "what": "all", "token": None}, None)],
)  # fmt: skip
def test_what_would_become_the_default_is_named(client, given, named):
    job = enqueue(typed.tidy, **given)
    text = client.get(f"/new?job={job.id}").text

    assert re.findall("It was (.*): a field cannot hold that", text) == [named] * bool(named)


def test_a_form_that_a_deploy_has_changed_meanwhile_is_shown_again(client, redis):
    """Else "dry_run", now "is_dry", would be left out, and a new box would count as not ticked."""
    sent = {"function": "tests.jobs.typed.rehearse", "arg.dry_run": "true"}
    changed = post(client, "/new", **sent, fields="arg.dry_run:checkbox")
    [fields] = re.findall('name="fields" value="([^"]+)"', changed.text)
    is_enqueued = redis.exists(keys.queue("default"))
    done = post(client, "/new", **sent, fields=fields)

    assert (changed.status_code, is_enqueued) == (422, 0)
    assert "takes other arguments by now" in changed.text
    assert re.search('name="arg.is_dry"[^>]* checked', changed.text)
    assert (fields, done.status_code) == ("arg.is_dry:checkbox", 303)


def test_a_form_can_be_linked_with_its_arguments(client):
    text = client.get("/new?function=jobs.numbers.add&arg.x=7&opt.queue=low").text

    assert re.findall(r'value="(7|low)"', text) == ["7", "low"]
    assert '<details class="options" open' in text


def test_a_new_job_needs_a_token_and_an_allowed_function(client, redis):
    refused = client.post("/new", data={"function": "jobs.numbers.add"}).status_code
    unknown = post(client, "/new", function="os.system").status_code

    assert (refused, unknown) == (403, 422)
    assert not redis.exists(keys.queue("default"))


@pytest.mark.browser
@pytest.mark.parametrize("has_scripts", [True, False])
def test_in_a_browser_a_job_is_made_from_its_types(chromium, live, client, redis, has_scripts):
    with logged_in(chromium, live, client, has_scripts) as page:
        page.goto("/jobs")
        page.click("text=New job")
        page.fill("[name=function]", "typed.da")
        page.click("button:has-text('Choose')")
        page.click("main td >> text=tests.jobs.typed.day")
        page.fill("[name='arg.it']", "2030-01-31")
        page.click("summary:has-text('Options')")
        page.fill("[name='opt.in']", "soon")
        page.click("button:has-text('Enqueue')")
        refused = page.inner_text(".field.wrong")
        kept = page.input_value("[name='arg.it']")
        page.fill("[name='opt.in']", "")
        page.fill("[name='opt.description']", "my own job")
        page.click("button:has-text('Enqueue')")
        page.wait_for_selector(".done:has-text('Enqueued tests.jobs.typed.day')")
        job_id = page.inner_text("#id")

    assert "in is 'soon'" in refused
    assert kept == "2030-01-31"
    assert read.job(redis, job_id).description == "my own job"
