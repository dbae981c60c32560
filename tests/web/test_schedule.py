"""The schedule in the browser and in the API: what is shown, and what can be done."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from jiffy import at, clock, every, keys
from jiffy.cli import load, run
from jiffy.control import entries
from jiffy.scheduler.rq_entries import Scheduler
from jobs import numbers
from tests.web.conftest import post

ENTRY, NAME = "entry-jobs-numbers-add", "jobs.numbers.add"
PAGE, API = f"/schedule/{NAME}", f"/api/schedule/{NAME}"


@pytest.fixture
def entry(declare):
    declare(every("10m", numbers.add, args=[2, 3]))


# Is there a scheduler?


def test_every_page_of_the_schedule_warns_of_a_missing_scheduler(client, entry):
    for path in ("/", "/schedule", PAGE):
        assert 'id="no-scheduler"' in client.get(path).text


@pytest.mark.usefixtures("leader", "entry")
def test_a_running_scheduler_causes_no_warning(client):
    for path in ("/", "/schedule", PAGE):
        assert 'id="no-scheduler"' not in client.get(path).text


def test_so_does_the_list_in_a_shell(entry, redis, capsys):
    run(load("scheduler"), ["list"])
    away = capsys.readouterr().err
    redis.set(keys.LEADER, "{}")
    run(load("scheduler"), ["list"])

    assert (away, capsys.readouterr().err) == (
        "No scheduler is running: none of them is enqueued.\n", "",
    )  # fmt: skip


def test_where_nothing_is_scheduled_no_scheduler_is_missed(client, stranger, api):
    assert 'id="no-scheduler"' not in client.get("/").text
    assert "Nothing is scheduled." in client.get("/schedule").text
    assert stranger.get("/healthz").json["scheduler"] == "none"
    assert api("GET", "/api/schedule").json == {"scheduler": "none", "entries": [], "left_out": []}


def test_health_says_whether_a_scheduler_is_alive_and_never_which(app, stranger, entry, redis):
    away = stranger.get("/healthz")
    redis.set(keys.LEADER, json.dumps({"who": "scheduler.1:7", "token": "t"}))
    app.extensions["jiffy.census"].forget()
    led = stranger.get("/healthz")

    assert (away.status_code, away.json["scheduler"]) == (200, "away")
    assert (led.status_code, led.json["scheduler"]) == (200, "ok")
    assert "scheduler.1" not in led.text


# Pages


def test_an_entrys_page_shows_its_history_as_a_table_and_as_a_picture(client, entry, redis):
    redis.lpush(keys.ticks(ENTRY), "t|1763600400|3|finished|1500|", "s|1763601000|0|||it is busy",
                "t|1763601600|3|failed|3000|")  # fmt: skip
    text = client.get(PAGE).text

    assert "jobs.numbers.add(2, 3)" in text
    assert re.findall(r'<rect class="(\w+)" x="(\d+)"', text) == [
        ("finished", "0"), ("skipped", "12"), ("failed", "24"),
    ]  # fmt: skip
    assert "2025-11-20 01:00:00 UTC: finished, took 1.5 s" in text
    assert "it is busy" in text
    assert 'href="/jobs/jobs-numbers-add-20251120T010000Z"' in text


def test_an_entry_is_paused_and_resumed_on_its_page(client, entry, redis):
    answer = post(client, f"{PAGE}/pause", why="the <b>disk</b> is full", until="2h")
    paused, text = entries.find(redis, NAME).paused, client.get(PAGE).text
    post(client, f"{PAGE}/resume")

    assert (answer.status_code, answer.location) == (303, PAGE)
    assert (paused.who, paused.why) == ("admin", "the <b>disk</b> is full")
    assert "the &lt;b&gt;disk&lt;/b&gt; is full" in text
    assert entries.find(redis, NAME).paused is None


def test_a_colleagues_pause_is_neither_replaced_nor_ended_unseen(client, entry, redis):
    entries.pause(redis, NAME, who="bob", why="a deploy")
    [shown] = re.findall('name="since" value="([^"]+)"', client.get(PAGE).text)
    entries.pause(redis, NAME, who="ann", why="fraud")
    answers = [
        post(client, f"{PAGE}/pause", why="a deploy", until="10m"),
        post(client, f"{PAGE}/resume", since=shown),
    ]
    paused = entries.find(redis, NAME).paused

    assert [answer.status_code for answer in answers] == [409] * 2
    assert all("ann: fraud. Nothing was changed." in answer.text for answer in answers)
    assert (paused.who, paused.until) == ("ann", None)
    assert post(client, f"{PAGE}/resume", since=f"{paused.since}").status_code == 303


def test_the_next_run_is_skipped_from_the_page_and_the_skip_canceled(client, entry, redis):
    post(client, f"{PAGE}/skip")
    skips = entries.find(redis, NAME).skip
    text = client.get(PAGE).text
    post(client, f"{PAGE}/skip", count="0")

    assert skips == 1
    assert "The next run will be skipped." in text
    assert entries.find(redis, NAME).skip == 0


IN_2099 = datetime(2099, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "skip", "until", "following"),
    [
        ("every 10m", 0, None, "Mon 2099-06-01 00:00 UTC Then Mon 2099-06-01 00:10 UTC"),
        ("every 10m", 2, None, "Mon 2099-06-01 00:20 UTC; skipped: Mon 2099-06-01 00:00 UTC"),
        ("every 10m", 0, 15, "Mon 2099-06-01 00:20 UTC; skipped: Mon 2099-06-01 00:00 UTC"),
        ("every 10m", 1, 20, "Mon 2099-06-01 00:30 UTC; skipped: Mon 2099-06-01 00:00 UTC"),
        ("every 10m", 0, -5, "Mon 2099-06-01 00:00 UTC Then Mon 2099-06-01 00:10 UTC"),
        ("cron '0 9 * * *' on the clock of Asia/Tokyo", 1, None,
         "Tue 2099-06-02 09:00 JST; skipped: Mon 2099-06-01 09:00 JST"),
        ("cron '0 9 * * *' on the clock of Asia/Tokyo", 0, 24 * 60,
         "Tue 2099-06-02 09:00 JST; skipped: Mon 2099-06-01 09:00 JST"),
        ("every 10m until 2100-01-01", 1, None, "not known; skipped: Mon 2099-06-01 00:00 UTC"),
        ("every 10m until 2100-01-01", 0, -5, "Mon 2099-06-01 00:00 UTC Time zone"),
        ("every 10m", 0, "resumed", "when it is resumed; skipped: Mon 2099-06-01 00:00 UTC"),
    ],
)  # fmt: skip
def test_what_is_shown_as_next_is_the_run_that_is_not_skipped(
    client, redis, entry, words, skip, until, following
):
    redis.hset(keys.job(ENTRY), keys.POLICY_FIELD, json.dumps({"words": words}))
    redis.zadd(keys.ENTRIES, {ENTRY: IN_2099.timestamp()})
    entries.skip_next(redis, NAME, skip)
    if until is not None:
        end = None if until == "resumed" else IN_2099 + timedelta(minutes=until)
        entries.pause(redis, NAME, who="ann", why="a deploy", until=end)
    text, listed = (client.get(path).text for path in (PAGE, "/schedule"))
    shown = " ".join(re.sub(r"<time.*?/time>|<[^>]*>", " ", text).split()).replace(" ;", ";")

    titled = re.findall('<time datetime="([^"]+)" title="([^"]+) UTC"', text + listed)
    differ = [clock.read(exact) - clock.read(f"{title}Z") for exact, title in titled]

    assert [one for one in differ if not timedelta(0) <= one < timedelta(seconds=1)] == []
    assert f" Next {following}" in shown
    assert ("; skipped: <time " in listed) == ("skipped" in following)


def test_a_run_that_has_begun_since_the_page_was_shown_is_not_skipped_in_place_of_the_next(
    client, entry, redis
):
    shown = 'name="shown" value="([^"]+)"'
    [first] = re.findall(shown, client.get(PAGE).text)
    redis.zincrby(keys.ENTRIES, 600, ENTRY)
    late = post(client, f"{PAGE}/skip", count="1", shown=first)
    skips, [second] = entries.find(redis, NAME).skip, re.findall(shown, client.get(PAGE).text)
    entries.skip_next(redis, NAME, 5)
    post(client, f"{PAGE}/skip", count="1", shown=second)  # a colleague wants more
    post(client, f"{PAGE}/skip", count="0", shown="1")
    more, [third] = entries.find(redis, NAME).skip, re.findall(shown, client.get(PAGE).text)
    redis.zincrby(keys.ENTRIES, 600, ENTRY)
    entries.skip_next(redis, NAME, 4)  # one is over
    post(client, f"{PAGE}/skip", count="0", shown=third)

    assert (skips, late.status_code) == (0, 409)
    assert "is another by now. Nothing was changed" in late.text
    assert (more, entries.find(redis, NAME).skip) == (5, 0)


@pytest.mark.parametrize(
    ("more", "has_more"),
    [({}, True), ({"repeat": 2}, False), ({"end": datetime(2099, 1, 1, tzinfo=UTC)}, False)],
)
def test_runs_that_may_not_come_are_not_announced(client, declare, more, has_more):
    declare(every("10m", numbers.add, args=[2, 3], **more))

    assert ("<dt>Then</dt>" in client.get(PAGE).text) == has_more


def test_an_entry_is_run_now_from_its_page_and_the_history_names_the_user(client, entry, work):
    post(client, f"{PAGE}/run")

    assert work() == 1
    assert "by admin" in client.get(PAGE).text


@pytest.mark.parametrize("action", ["pause", "resume", "run", "skip"])
def test_nothing_is_done_without_a_token_or_a_login(client, stranger, entry, redis, action):
    for visitor in (client, stranger):
        answer = visitor.post(f"{PAGE}/{action}", data={"why": "x"})
        assert answer.status_code in (302, 403)
        assert client.get(f"{PAGE}/{action}").status_code == 405

    assert entries.find(redis, NAME).paused is None
    assert redis.llen(keys.queue("default")) == 0


@pytest.mark.parametrize(
    ("action", "fields", "status", "said"),
    [
        ("pause", {"why": " "}, 422, "why is"),
        ("pause", {"why": "x", "until": "soon"}, 422, "until is"),
        ("pause", {"why": "x", "until": "2020-01-01T00:00:00Z"}, 422, "a time in the future"),
        ("skip", {"count": "-1"}, 422, "count is &#39;-1&#39;"),
        ("skip", {"count": "abc"}, 422, "count is &#39;abc&#39;; it must be how many runs"),
        ("skip", {"count": "1001"}, 422, "count is 1001; it must be how many runs to skip"),
        ("skip", {"count": "9" * 5000}, 422, "count is &#39;999"),
    ],
)
def test_a_page_names_the_invalid_value(client, entry, action, fields, status, said):
    answer = post(client, f"{PAGE}/{action}", **fields)

    assert answer.status_code == status
    assert said in answer.text


def test_an_unknown_entry_is_not_found_in_words(client, api, entry):
    page, answer = client.get("/schedule/jobs.numbers.ad"), api("GET", "/api/schedule/nope")

    assert page.status_code == answer.status_code == 404
    assert "Did you mean &#39;jobs.numbers.add&#39;?" in page.text
    assert answer.json["detail"].startswith("No entry 'nope' in the schedule.")


def test_an_entry_of_rq_scheduler_links_to_its_job_which_waits_for_its_time(client, api, redis):
    moment = datetime(2999, 1, 1, tzinfo=UTC)
    job = Scheduler(connection=redis).enqueue_at(moment, numbers.add, 2, 3)
    refused = api("DELETE", f"/api/jobs/{job.id}")

    assert f'href="/jobs/{job.id}"' in client.get("/schedule").text
    assert "It waits for its time at 00:00:00 UTC" in client.get(f"/jobs/{job.id}").text
    assert api("GET", f"/api/jobs/{job.id}").json["times"]["due"] == "2999-01-01T00:00:00Z"
    assert (refused.status_code, "an entry of the schedule" in refused.json["detail"]) == (
        409,
        True,
    )


def test_secrets_in_an_entrys_call_are_masked(client, api, declare, redis):
    url = "redis://u:hunter2@h"
    declare(every("10m", numbers.add, args=[2, 3], name="ours"))
    redis.hset(keys.job("entry-ours"), "description", f"jobs.x.y('{url}', 3)")
    Scheduler(connection=redis).enqueue_at(
        datetime(2999, 1, 1, tzinfo=UTC), "jobs.x.y", url, password="hunter2"
    )
    texts = [api("GET", f"/api{path}").text for path in ("/schedule", "/schedule/ours")]
    texts += [client.get(path).text for path in ("/schedule", "/schedule/ours")]

    assert all("redis://u:***@h" in text and "hunter2" not in text for text in texts)
    assert "password=***" in texts[0]


def test_a_job_links_to_its_entry_whatever_its_name(client, entry, redis, plant):
    job_id = entries.run_now(redis, NAME, "ada")
    plant("odd", **{keys.TICK_OF_FIELD: "../<b>"})

    assert f'href="{PAGE}"' in client.get(f"/jobs/{job_id}").text
    assert "../<b>" not in client.get("/jobs/odd").text


# API


def test_the_api_has_the_schedule(api, declare, leader):
    declare(
        every("10m", numbers.add, args=[2, 3]),
        at(datetime(2999, 1, 1, tzinfo=UTC), numbers.add, args=[1, 2], name="new-year"),
    )
    answer = api("GET", "/api/schedule").json
    [first, second] = answer["entries"]

    assert answer["scheduler"] == "ok"
    assert (first["name"], first["times"], first["queue"]) == (NAME, "every 10m", "default")
    assert (first["call"], first["last"]) == ("jobs.numbers.add(2, 3)", None)
    assert (second["name"], second["next"]) == ("new-year", "2999-01-01T00:00:00Z")


def test_the_api_says_which_entries_can_be_changed_and_why_not_the_others(api, entry, redis):
    moment = datetime(2999, 1, 1, tzinfo=UTC)
    job = Scheduler(connection=redis).enqueue_at(moment, numbers.add, 2, 3)
    answer = api("GET", "/api/schedule").json["entries"]
    listed = {one["name"]: one["of_table"] for one in answer}
    refused = api("POST", f"/api/schedule/{job.id}/run")

    assert listed == {NAME: True, job.id: False}
    assert refused.status_code == 404
    assert "was made through rq-scheduler's API" in refused.json["detail"]


def test_the_api_pauses_resumes_skips_and_runs_an_entry(api, entry, work):
    why = {"why": "holidays", "until": "2999-01-01T00:00:00Z", "who": "ada"}
    paused = api("POST", f"{API}/pause", json=why)
    resumed = api("POST", f"{API}/resume")
    skipped = api("POST", f"{API}/skip", json={"count": 3})
    ran = api("POST", f"{API}/run", json={})
    work()
    answer = api("GET", API).json

    assert paused.json["paused"].items() >= why.items()
    assert resumed.json["paused"] is None
    assert skipped.json["skip"] == 3
    assert ran.status_code == 202
    assert api("GET", ran.json["status_url"]).json["result"] == 5
    assert [(tick["job"], tick["reason"]) for tick in answer["history"]] == [
        (ran.json["id"], "by the API")
    ]


@pytest.mark.parametrize(
    ("action", "sent", "status", "said", "pointer"),
    [
        ("pause", None, 422, "why is None; it must be a string", None),
        ("pause", {"why": ""}, 422, "why is ''; it must be a string", "#/why"),
        (
            "pause",
            {"why": "x", "until": "2020-01-01T00:00:00Z"},
            422,
            "a time in the future",
            "#/until",
        ),
        ("pause", {"why": "x", "until": "9999-12-31T23:59:59-14:00"}, 422, "9999 of", "#/until"),
        ("pause", {"why": "x", "untl": "2h"}, 422, "(did you mean 'until'?)", "#/untl"),
        ("resume", {"why": "x"}, 422, "key is 'why'; it must be left out.", "#/why"),
        ("skip", {"count": True}, 422, "count is True; it must be a whole number", "#/count"),
        ("skip", {"count": -1}, 422, "count is -1", "#/count"),
        ("skip", {"count": 10**20}, 422, "from 0 to 1000", "#/count"),
        ("run", [], 400, "The body must be an object", None),
    ],
)
def test_the_api_says_what_is_wrong_and_where(api, entry, action, sent, status, said, pointer):
    answer = api("POST", f"{API}/{action}", **({} if sent is None else {"json": sent}))

    assert answer.status_code == status
    assert said in answer.json["detail"]
    assert answer.json.get("pointer") == (pointer or ("#" if status == 422 else None))


def test_a_token_that_may_only_read_changes_no_entry(app, environ, entry, redis):
    environ(API_READ_TOKEN="reads")
    headers = {"Authorization": "Bearer reads"}
    client = app.test_client()

    assert client.get("/api/schedule", headers=headers).status_code == 200
    assert client.post(f"{API}/run", headers=headers).status_code == 403
    assert redis.llen(keys.queue("default")) == 0


# In a browser


@pytest.mark.browser
def test_typed_text_survives_a_refresh_and_the_pause_is_shown(browser, entry, redis):
    browser.goto(PAGE)
    browser.click("text=Pause…")
    browser.fill("[name=why]", "the disk is full")
    with browser.expect_response("**" + PAGE):
        entries.skip_next(redis, NAME)
    browser.wait_for_selector("#skips")
    typed = browser.input_value("[name=why]")
    browser.press("[name=why]", "Enter")
    browser.wait_for_selector("#paused")

    assert typed == "the disk is full"
    assert browser.inner_text("#paused").endswith("the disk is full")


def test_odd_numbers_of_an_entry_neither_stop_nor_hold_a_page(client, redis, entry):
    """To count so many runs on takes hours."""
    redis.hset(keys.entry_state(ENTRY), "skip", "9" * 15)
    statuses = []
    for words in ("cron '* * * * *' on the clock of UTC", "every 0s"):
        redis.hset(keys.job(ENTRY), keys.POLICY_FIELD, json.dumps({"words": words}))
        statuses += [client.get(path).status_code for path in (PAGE, "/schedule")]

    assert statuses == [200] * 4
    assert entries.find(redis, NAME).skip == 0


@pytest.mark.parametrize(
    "words", ["every 10m", "every 99999999999d", "every 1.2.3m",
              "cron '* * * * *' on the clock of UTC", "cron '0 6 * * *' on the clock of Asia/Tokyo"]
)  # fmt: skip
def test_an_entry_at_the_end_of_the_calendar_has_a_page(client, redis, entry, words):
    redis.hset(keys.job(ENTRY), keys.POLICY_FIELD, json.dumps({"words": words}))
    redis.zadd(keys.ENTRIES, {ENTRY: 253402300799})

    assert client.get(PAGE).status_code == 200
