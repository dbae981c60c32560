"""A job's page: its path, why it is not running, its attempts, and what can be done with it."""

import ast
import html
import json
import re
import shlex
import tracemalloc
from datetime import timedelta

import pytest
import rq
from rq.job import Dependency
from rq.utils import utcformat

from jiffy import Retry, actions, clock, keys, part, result, tracebacks
from jiffy.control import read, why
from jiffy.control.pauses import pause, resume
from jiffy.history import Flow, Sample
from jiffy.producer.enqueue import enqueue
from jobs import images, numbers, reports
from tests.jobs import worker as worker_jobs
from tests.web.conftest import logged_in, post
from tests.web.test_browser import refresh, refresh_until, stop_the_clock
from tests.web.test_frame import words
from tests.web.test_screens import TRACEBACK


@pytest.fixture
def reasons(redis):
    """Why a job is not running, in words."""

    def find(job_id):
        found = why.reasons(read.job(redis, job_id), read.census(redis))
        return [f"{reason.text} {reason.remedy}".strip() for reason in found]

    return find


def test_of_many_dependencies_those_that_are_over_do_not_count(reasons, plant):
    """The one that failed stands behind many others."""
    ids = [plant(f"done{number}") for number in range(25)]
    ids += [plant("runs", status="started"), "gone"]
    plant("waits", status="deferred", dependency_ids=json.dumps(ids))
    before = reasons("waits")
    ids.append(plant("bad", status="failed", error="boom"))
    plant("stuck", status="deferred", dependency_ids=json.dumps(ids))
    plant("met", status="deferred", dependency_ids=json.dumps(ids[:25]))

    assert before == ["It waits for 1 job to finish."]
    assert reasons("stuck")[0].startswith("It waits for bad (failed). Retry what failed")
    assert reasons("met")[0].endswith("or are gone. If this stays so, cancel it and retry it.")


def test_where_a_dependency_may_fail_only_the_others_are_waited_for(reasons, plant):
    parts = [plant("bad", status="failed", error="boom"), plant("runs", status="started")]
    job = enqueue.options(depends_on=Dependency(parts, allow_failure=True))(numbers.add, 1, 2)

    assert reasons(job.id) == ["It waits for 1 job to finish."]


def test_a_queued_job_says_who_is_missing_and_what_stands_before_it(
    reasons, plant, plant_worker, redis
):
    for number in range(3):
        plant(f"job{number}", status="queued")
    alone = reasons("job2")
    plant_worker("w1", queues="low")
    unheard = reasons("job2")
    plant_worker("w2")
    first, second, third = (reasons(f"job{number}") for number in range(3))
    plant_worker("w2", state="busy")
    busy = [reasons(f"job{number}")[0] for number in range(2)]
    plant_worker("w3", state="busy")
    both_busy = reasons("job0")
    redis.set(keys.SUSPENDED, 1)
    suspended = reasons("job1")
    redis.lrem(keys.queue("default"), 0, "job1")

    assert alone[0] == "No workers are running. Start one:"
    assert unheard[0] == "No worker listens to queue “default”. Start one, or check the name:"
    assert first == ["It is the next job on its queue."]
    assert second == ["1 job is ahead of it on its queue."]
    assert third == ["2 jobs are ahead of it on its queue."]
    assert busy == [
        "It is the next job on its queue, and its one worker is busy.",
        "1 job is ahead of it on its queue, and its one worker is busy.",
    ]
    assert both_busy == ["It is the next job on its queue, and all 2 workers are busy."]
    assert suspended[0] == "All workers are suspended. Resume them:"
    assert "not on its queue" in reasons("job1")[1]


def test_a_paused_job_says_by_whom_and_why(client, plant, plant_worker, app):
    plant_worker("w1")
    for number in range(2):
        plant(f"job{number}", status="queued")
    pause(queue="default", who="ada", why="the bank is down", until="2h")
    of_queue = words(client.get("/jobs/job1").text)
    resume(queue="default")
    pause(function="jobs.numbers.add", who="bob", why="wrong sums")
    app.extensions["jiffy.census"].forget()
    of_function = words(client.get("/jobs/job1").text)

    assert "Queue “default” is paused by ada until 20" in of_queue
    assert "UTC: the bank is down." in of_queue
    assert "Resume it: python -m jiffy resume queue default" in of_queue
    assert "1 job is ahead of it" in of_queue
    assert "The function jobs.numbers.add is paused by bob: wrong sums." in of_function


def test_a_held_job_says_what_it_waits_for(reasons, plant, plant_worker, work, redis):
    plant("bad", status="failed", error="ValueError: no card")
    plant("after", status="deferred", dependency_ids=json.dumps(["bad"]))
    first, second = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 4))
    later = enqueue.options(in_="5m")(numbers.add, 1, 2)
    again = enqueue.options(retry=Retry(3, pause="1m"))(images.resize, "missing.jpg", 200)
    overdue = enqueue.options(in_="5m")(numbers.add, 1, 2)
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {overdue.id: 1})
    limited = [enqueue.options(rate_limit="stripe:1")(numbers.add, 1, 2) for _ in range(2)]

    assert reasons("after")[0].startswith("It waits for bad (failed). Retry what failed")
    assert reasons(second.id) == ["It waits for 1 job to finish."]
    assert reasons(limited[1].id)[0].startswith("It waits for a slot of the rate limit 'stripe'")
    assert reasons(later.id)[0].startswith("It waits for its time at ")
    assert reasons(overdue.id) == ["It is due.", "No workers are running. Start one:"]
    work()
    assert reasons(again.id)[0].startswith("It waits for the retry at ")
    assert reasons(first.id) == []


def test_a_job_that_waits_says_when_it_starts_at_the_rate_of_its_queue(redis, plant, plant_worker):
    plant_worker("w1")
    for number in range(29):
        plant(f"job{number}", status="queued")
    flow = Flow((Sample(0, 29, 0), Sample(10, 29, 60), Sample(20, 29, 80)))

    def said(flow):
        return why.reasons(read.job(redis, "job28"), read.census(redis), flow)[-1].text

    standing = "28 jobs are ahead of it on its queue"
    assert said(flow) == f"{standing}; at 7.0/s, it starts in about 4 s."
    assert said(Flow(flow.samples[:1])) == f"{standing}."
    pause(queue="default", who="ada", why="the bank is down")
    assert said(flow) == f"{standing}."


@pytest.mark.parametrize(
    ("ran_s", "words"),
    [(0.001, "quicker than usual"), (0.15, "as usual"), (0.7, "slower than usual"),
     (60, "much slower than usual")],
)  # fmt: skip
def test_a_jobs_duration_is_compared_with_its_functions_history(client, plant, redis, ran_s, words):
    minute = redis.time()[0] // 60
    plant("none", call=["jobs.other", None, [], {}], started_at=ago(60), ended_at=ago(50))
    for bucket, count in ((11, 90), (12, 10)):
        field = f"done 1 {bucket} jobs.numbers.add\ndefault"
        redis.hincrby(keys.history(f"now:{minute}"), field, count)
    now = clock.now()
    plant("one", started_at=ago(70, now), ended_at=ago(70 - ran_s, now))
    text = client.get("/jobs/one").text

    assert f"Duration <small>{words}</small>" in text
    assert "Of 100 attempts of jobs.numbers.add in the last 7 days, half took up to " in text
    assert 'id="duration"' not in client.get("/jobs/none").text


def test_the_path_of_a_job_ends_where_the_job_is(redis, plant):
    at = clock.now()
    plant("waits", status="queued")
    plant("runs", status="started", started_at=ago(5), enqueued_at=ago(9))
    plant("failed", status="failed", error="x", created_at=ago(90, at), enqueued_at=ago(60, at),
          started_at=ago(50, at), ended_at=ago(20, at))  # fmt: skip
    plant("canceled", status="canceled", enqueued_at="")
    plant("later", status="scheduled", enqueued_at="")
    paths = {job_id: [(step.name, step.place) for step in why.path(read.job(redis, job_id))]
             for job_id in ("waits", "runs", "failed", "canceled", "later")}  # fmt: skip
    took = [step.took_s and round(step.took_s) for step in why.path(read.job(redis, "failed"))]
    past, now, coming = "past", "now", "next"

    assert paths == {
        "waits": [("created", past), ("waiting", now), ("running", coming), ("finished", coming)],
        "runs": [("created", past), ("waiting", past), ("running", now), ("finished", coming)],
        "failed": [("created", past), ("held back", past), ("waiting", past), ("running", past),
                   ("failed", now)],
        "canceled": [("created", past), ("canceled", now)],
        "later": [("created", past), ("scheduled", now), ("waiting", coming), ("running", coming),
                  ("finished", coming)],
    }  # fmt: skip
    assert took == [None, 30, 10, 30, None]


def test_each_attempt_is_shown_with_its_worker_and_duration(client, work):
    job = enqueue(images.resize, "missing.jpg", 200)
    work()
    post(client, f"/jobs/{job.id}/retry")
    work()
    attempts = client.get(f"/jobs/{job.id}").text.partition('id="attempts"')[2]

    assert re.findall(r'class="state (\w+)"', attempts) == ["failed", "failed"]
    assert len(re.findall(r"ms</td>", attempts)) == 2


def test_an_attempt_took_as_long_in_the_list_of_attempts_as_above_it(client, redis, plant):
    moments = {"started_at": clock.from_wall(1000), "ended_at": clock.from_wall(1000.25)}
    plant("one", **{name: utcformat(moment) for name, moment in moments.items()})
    redis.xadd(keys.results("one"), {"type": 1, "execution_started_at": 1000,
                                     "execution_ended_at": 1000.25})  # fmt: skip

    assert words(client.get("/jobs/one").text).count("250 ms") == 2


def test_attempts_that_took_their_process_with_them_are_shown(client, plant):
    causes = "signal 11 (SIGSEGV) at 2026-11-29 14:09:57 UTC\nsignal 9 (SIGKILL) at 2026-11-29"
    plant("crashing", status="queued", **{keys.CAUSES_FIELD: causes})
    text = words(client.get("/jobs/crashing").text)

    assert "Its process died 2 times: signal 11 (SIGSEGV) at 2026-11-29 14:09:57 UTC; sig" in text


def test_what_the_error_says_of_its_deaths_is_not_said_again(client, plant):
    causes = ["exit code 3 at 2026-11-29 14:09:57 UTC"] * 3
    error = f"its worker died 3 times: {'; '.join(causes)}"
    plant("dead", status="failed", error=error, **{keys.CAUSES_FIELD: "\n".join(causes)})
    text = words(client.get("/jobs/dead").text)

    assert ("died 3 times" in text, "Its process died" in text) == (True, False)


def test_a_stopped_job_is_no_failure_anywhere(client, plant):
    plant("bad", status="failed", error=TRACEBACK)
    plant("no-more", status="stopped", error="Job stopped by user, work-horse terminated.")
    attempts = client.get("/jobs/no-more").text.partition('id="attempts"')[2]

    assert re.findall(r'class="state (\w+)"', attempts) == ["stopped"]
    key = tracebacks.Group.of(TRACEBACK).key
    for path in ("/", "/failures"):
        groups = re.findall(r'id="(?:newest|group)-(\w+)"', client.get(path).text)
        assert groups == [key]
    trial = post(client, f"/failures/{key}/trial").location
    plant("bad", status="stopped", error="Job stopped by user, work-horse terminated.")
    assert "It was stopped." in client.get(trial).text


def test_a_traceback_shows_the_users_own_code_first(client, plant):
    plant("bad", status="failed", error=TRACEBACK)
    text = words(client.get("/jobs/bad").text)

    assert "jobs/shop.py:41 in charge answer = stripe.Charge.create(" in text
    assert text.index("jobs/shop.py:41") < text.index("site-packages/stripe")
    assert [frame.short for frame in tracebacks.own_frames(TRACEBACK)] == ["jobs/shop.py"]


@pytest.mark.parametrize("text", ["", "x", 'File "', 'File "a", line 99999999999999999999, in f'])
def test_odd_tracebacks_have_no_frames_or_odd_ones(text):
    assert len(tracebacks.own_frames(text)) <= 1


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("ValueError: no", "ValueError"),
        ("stripe.error.CardError: declined: x", "stripe.error.CardError"),
        ("KeyError", "KeyError"),
        ("its worker died 3 times: signal 9; signal 9", "its worker died 3 times"),
        (TRACEBACK, "stripe.error.CardError"),
        (TRACEBACK + "\nsecond line: of its message\n\nthird", "stripe.error.CardError"),
        ("", "unknown"),
    ],
)
def test_the_kind_of_a_failure_is_its_exception(cause, kind):
    assert tracebacks.Group.of(cause).kind == kind


def test_a_jobs_call_can_be_copied_and_its_secrets_stay_masked(client, plant):
    plant(
        "one", call=["jobs.shop.charge", None, [1, True], {"to": {"city": "Kyiv"}, "token": "t0p"}]
    )
    text = client.get("/jobs/one").text

    assert "enqueue.by_path(&#39;jobs.shop.charge&#39;, 1, True, to=" in text
    assert "&#34;function&#34;: &#34;jobs.shop.charge&#34;" in text
    assert "t0p" not in text


def test_what_is_copied_as_python_enqueues_the_same_call(client):
    job = enqueue(numbers.add, 5, y=3)
    text = client.get(f"/jobs/{job.id}").text
    copied = re.search(r'id="copy-Python"[^>]*>(.*?)</pre>', text, re.DOTALL)[1]
    made = eval(copied.rpartition("\n")[2].replace("&#39;", "'"), {"enqueue": enqueue})

    assert (made.args, made.kwargs) == (job.args, job.kwargs)


OPTIONS = [
    {}, {"queue": "low", "timeout": "20m", "retry": 2, "result_ttl": "1d"},
    {"timeout": -1, "result_ttl": 0, "failure_ttl": -1, "expires": "90s"}, {"ttl": "1h"},
    {"retry": Retry(3, pause="2s", factor=3, limit="10s", jitter=False, on=TimeoutError)},
    {"retry": Retry(4, pause=0)}, {"retry": rq.Retry(3)}, {"retry": rq.Retry(3, [5])},
    {"rescue": False, "isolate": True, "rate_limit": "stripe:5"}, {"queue": "it's; x"},
    {"on_failure": "tests.jobs.worker.note_failure"},
]  # fmt: skip


@pytest.mark.parametrize("given", OPTIONS, ids=range(len(OPTIONS)))
def test_what_is_copied_has_the_options_that_the_job_has(client, api, redis, environ, given):
    environ(JOBS_MODULES="jobs,tests.jobs.worker")
    job = enqueue.options(**given)(numbers.add, 5, y=3)
    text = client.get(f"/jobs/{job.id}").text
    copied = dict(re.findall(r'id="copy-(\w+)"[^>]*>(.*?)</pre>', html.unescape(text), re.DOTALL))
    made = eval(copied["Python"].rpartition("\n")[2], {"enqueue": enqueue})
    words = shlex.split(copied["curl"])
    sent = json.loads(words[words.index("-d") + 1])
    posted = api("POST", "/api/jobs", json=sent).json["id"]
    hashes = [redis.hgetall(keys.job(one)) for one in (job.id, made.id, posted)]
    for one in hashes:
        del one[b"created_at"], one[b"enqueued_at"]
        if pauses := json.loads(one.pop(b"retry_intervals", "[]")):  # RQ repeats a single one
            one["pauses"] = [*pauses, *pauses[:1] * (int(one[b"retries_left"]) - len(pauses))]

    assert hashes[0] == hashes[1] == hashes[2]
    assert (".options(" in copied["Python"]) == bool(given)


def test_an_option_that_the_function_has_usually_is_not_copied(client):
    usual, other = (enqueue.options(**given)(reports.last_day, "a.html")
                    for given in ({"timeout": "10m"}, {"timeout": "3m"}))  # fmt: skip

    assert "enqueue.by_path(" in client.get(f"/jobs/{usual.id}").text
    assert "enqueue.options(timeout=&#39;3m&#39;)" in client.get(f"/jobs/{other.id}").text


def test_what_a_job_does_not_have_though_its_function_usually_has_is_copied(
    client, environ, tmp_path, monkeypatch
):
    table = "from jiffy import options\nfrom jobs import numbers\n"
    table += "OPTIONS = {numbers.add: options(rescue=False, isolate=True)}\n"
    (tmp_path / "own_table.py").write_text(table)
    monkeypatch.syspath_prepend(tmp_path)
    environ(OPTIONS="own_table:OPTIONS")
    jobs = [enqueue.options(**given)(numbers.add, 5, 3)
            for given in ({}, {"rescue": True, "isolate": False})]  # fmt: skip
    usual, other = (html.unescape(client.get(f"/jobs/{job.id}").text) for job in jobs)

    assert "enqueue.by_path(" in usual
    assert "enqueue.options(rescue=True, isolate=False)" in other


def test_a_retry_that_a_job_returned_is_none_of_its_options(client, plant):
    plant("asked", number_of_retries="2")
    plant("had", number_of_retries="2", retries_left="1", retry_intervals="[5]")

    assert "enqueue.by_path(" in client.get("/jobs/asked").text
    assert "retry={&#39;max&#39;: 3," in client.get("/jobs/had").text


def test_what_is_masked_is_to_be_filled_in_before_a_copy_is_taken(client, api, plant):
    kwargs = {"token": "t0p", "url": "amqp://u:s3cret@host", "to": {"pin": "1234"}, "n": "it's"}
    plant("one", call=["jobs.shop.charge", None, [1], kwargs])
    text = html.unescape(client.get("/jobs/one").text)
    copied = dict(re.findall(r'id="copy-(\w+)"[^>]*>(.*?)</pre>', text, re.DOTALL))
    words = shlex.split(copied["curl"])
    body = words[words.index("-d") + 1]
    answer = api("POST", "/api/jobs", data=body, headers={"Content-Type": "application/json"})

    assert "token=FILL_IN, url=FILL_IN, to={'pin': FILL_IN}, n=\"it's\")" in copied["Python"]
    assert text.count("Put a value in place of each FILL_IN") == 0 < text.count("in place of each")
    assert ast.parse(copied["Python"])
    assert answer.status_code == 400
    assert not any(secret in text for secret in ("t0p", "s3cret", "1234"))


def test_the_page_of_a_long_call_takes_no_more_memory_than_its_size_many_times(client, plant):
    plant("long", call=["jobs.shop.charge", None, ["x" * 900_000], {}])
    tracemalloc.start()
    text = client.get("/jobs/long").text
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "Copy as" not in text  # it is too long
    assert peak_bytes < 30 * 900_000


def test_a_job_runs_again_with_the_options_that_it_had(client):
    options = {"queue": "low", "timeout": "20m", "retry": 2, "isolate": True}
    job = enqueue.options(**options)(numbers.add, 5, y=3)
    text = client.get(f"/new?job={job.id}").text

    for name, value in (("queue", "low"), ("timeout", "20m"), ("retry", "2")):
        assert re.search(rf' value="{value}" [^>]*name="opt.{name}"', text)
    chosen = text.partition('name="opt.isolate"')[2].partition("</select>")[0]
    assert '<option value="true" selected' in chosen


def test_a_page_says_how_long_a_job_may_run_and_is_kept(client):
    ttl = {"timeout": "20m", "result_ttl": "1d", "failure_ttl": 0}
    jobs = [enqueue.options(**given)(numbers.add, 5, 3) for given in (ttl, {}, {"timeout": -1})]
    texts = [" ".join(re.sub("<[^>]*>", " ", client.get(f"/jobs/{job.id}").text).split())
             for job in jobs]  # fmt: skip

    assert "Time limit 20m Kept 1d once it has finished, not at all if it failed" in texts[0]
    assert "Time limit 3m Kept 500 s once it has finished, a year if it failed" in texts[1]
    assert "Time limit none" in texts[2]


@pytest.mark.parametrize("before", [300 - 35, 20_000 - 35])
def test_a_password_where_a_description_is_cut_short_is_masked(client, plant, before):
    call = f"jobs.a('{'-' * before}', 'amqp://user:topsecret-topsecret@host"
    plant("other", description=f"{call}{'-' * 400}')")
    plant("job", status="deferred", dependency_ids='["other"]')
    pages = [client.get(f"/jobs/{name}").text for name in ("job", "other")]

    assert "other" in pages[0]
    assert [page.count("topsec") for page in pages] == [0, 0]


def test_a_workflow_is_a_graph_that_follows_execution(client, plant, redis, work, environ):
    environ(JOBS_MODULES="jobs,tests.jobs.worker")

    def shown(job_id):
        text = client.get(f"/jobs/{job_id}").text.partition('id="waits"')[2]
        links = set(re.findall(r'<a href="/jobs/([^"]+)"><g class="node (\w+)', text))
        return links, re.findall(r'<rect x="(\d+)" y="(\d+)"', text)

    first, second = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 4))
    group = enqueue.group([part(numbers.add, 1, 1), part(numbers.add, 2, 2)], worker_jobs.say)
    one, other = group.jobs
    plant("parent")
    redis.sadd(keys.dependents("parent"), "child")
    plant("child", status="deferred", dependency_ids='["parent", "gone"]')

    assert shown(first.id)[0] == {(second.id, "deferred")}
    assert shown(other.id)[0] == {(one.id, "queued"), (group.then.id, "deferred")}
    assert shown("parent") == ({("child", "deferred")}, [("0", "0"), ("0", "54"), ("220", "0")])
    work()
    assert shown(second.id) == ({(first.id, "finished")}, [("0", "0"), ("220", "0")])
    assert shown(group.then.id)[0] == {(one.id, "finished"), (other.id, "finished")}


def test_a_graph_shows_a_job_whose_key_is_something_else(client, plant, redis):
    redis.sadd(keys.job("parent:dependents"), "other")
    plant("this", status="deferred", dependency_ids='["parent:dependents"]')
    page = client.get("/jobs/this")

    assert page.status_code == 200
    assert "parent:dependents" in page.text


def test_a_graph_shows_a_hundred_jobs_and_says_that_there_are_more(client, plant, redis):
    ids = [f"part-{number}" for number in range(150)]
    plant("last", status="deferred", dependency_ids=json.dumps(ids))
    for job_id in ids:
        plant(job_id, status="queued")
    plant("round", status="deferred", dependency_ids='["round", "about"]')
    plant("about", status="deferred", dependency_ids='["round"]')
    text = words(client.get("/jobs/last").text)

    assert "Workflow 100 jobs: 99 queued, 1 deferred; 51 or more not shown" in text
    assert client.get("/jobs/round").status_code == 200


@pytest.mark.parametrize(
    ("state", "buttons"),
    [
        ("failed", {"Retry", "Delete…"}),
        ("queued", {"Cancel", "Delete…"}),
        ("started", {"Stop"}),
        ("finished", {"Delete…"}),
        ("canceled", {"Retry", "Delete…"}),
        ("odd", set()),
    ],
)
def test_the_buttons_are_those_that_the_state_allows(client, plant, state, buttons):
    plant("one", status=state, error="x" if state == "failed" else None)
    actions = (
        client.get("/jobs/one").text.partition('id="actions"')[2].partition('class="standing"')[0]
    )

    assert set(re.findall(r"<button[^>]*>([^<]*)</button>", actions)) == buttons


def test_what_is_refused_is_said_on_the_page(client, plant):
    plant("over")
    answer = post(client, "/jobs/over/stop")

    assert answer.status_code == 303
    assert "Job &#39;over&#39; is finished. Only a job" in client.get("/jobs/over").text


@pytest.mark.parametrize("path", ["retry", "cancel", "stop"])
def test_nothing_happens_to_a_job_by_get_or_without_a_token(client, plant, path, redis):
    plant("bad", status="failed", error="x")
    codes = (
        client.get(f"/jobs/bad/{path}").status_code,
        client.post(f"/jobs/bad/{path}").status_code,
    )

    assert codes == (405, 403)
    assert redis.zcard(keys.REGISTRIES["failed"] + "default") == 1


@pytest.mark.browser
@pytest.mark.parametrize("has_scripts", [True, False])
def test_in_a_browser_a_job_is_retried_and_deleted(
    chromium, live, client, plant, redis, has_scripts
):
    plant("bad", status="failed", error=TRACEBACK)
    with logged_in(chromium, live, client, has_scripts) as page:
        page.goto("/jobs/bad")
        page.keyboard.press("r") if has_scripts else page.click("text=Retry")
        page.wait_for_selector(".done:has-text('Retried')")
        state = page.inner_text(".standing .state")
        page.click("text=Delete…")
        page.click("text=Delete them")
        page.wait_for_selector(".done:has-text('Deleted 1 job.')")

    assert state == "queued"
    assert not redis.exists(keys.job("bad"))


@pytest.mark.browser
def test_a_click_on_retry_is_no_cancellation_where_someone_else_was_quicker(
    browser, plant, plant_worker
):
    plant_worker("w1")  # else a banner moves all buttons, as soon as workers are counted anew
    plant("bad", status="failed", error=TRACEBACK)
    browser.goto("/jobs/bad")
    browser.hover("#actions [data-key=r]")
    box = browser.locator("#actions [data-key=r]").bounding_box()
    stop_the_clock(browser)
    actions.retry("bad")
    refresh(browser)
    clicked, were_ignored = browser.evaluate(
        """([x, y]) => new Promise((done) => {
        const other = document.createElement("button");
        document.body.append(other);
        const look = () => {
            const button = document.elementFromPoint(x, y);
            if (button.textContent === "Retry") return setTimeout(look);
            const ignored = [button, other].map((one) => {
                const options = { bubbles: true, cancelable: true, detail: 1 };
                return !one.dispatchEvent(new MouseEvent("click", options));
            });
            done([button.textContent, ignored]);
        };
        look();
    })""",
        [box["x"] + 5, box["y"] + 5],
    )

    assert (clicked, were_ignored) == ("Cancel", [True, False])


@pytest.mark.browser
def test_a_tap_on_delete_stops_no_job_that_has_just_begun(chromium, live, client, plant, redis):
    plant("one", status="queued")
    with logged_in(chromium, live, client, has_touch=True) as page:
        page.goto("/jobs/one")
        box = page.locator("#actions button:has-text('Delete…')").bounding_box()
        page.evaluate(
            """addEventListener('click', (event) => {
            hit = event.defaultPrevented;
            event.preventDefault();
        })"""
        )
        stop_the_clock(page)
        redis.hset(keys.job("one"), "status", "started")
        refresh_until(page, "#actions button:has-text('Stop')")
        redis.hset(keys.job("one"), "description", "changed again")
        refresh_until(page, "h1:has-text('changed again')")
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_function("typeof hit == 'boolean'")

        assert page.evaluate("hit") is True


@pytest.mark.browser
def test_in_a_browser_the_graph_follows_execution_and_leads_to_its_jobs(browser, work):
    first, second = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 4))
    browser.goto(f"/jobs/{second.id}")
    browser.wait_for_selector(".graph .deferred.this")
    work()
    refresh(browser)
    browser.wait_for_selector(".graph .finished.this")
    browser.click(".graph a")
    browser.wait_for_url(f"**/jobs/{first.id}")

    assert browser.text_content(".graph .this .status") == "✓ finished · this job"


def ago(seconds, now=None):
    return utcformat((now or clock.now()) - timedelta(seconds=seconds))
