"""What the pages and /healthz show."""

import json
import re

import pytest
import rq
from flask import Blueprint
from rq.rate_limit import RateLimit

from jiffy import Retry, keys, part, result
from jiffy.control import read
from jiffy.dashboard import create_app
from jiffy.producer.enqueue import enqueue
from jobs import images, numbers
from tests.web.conftest import log_in, post


def test_the_first_page_without_anything_says_how_to_begin(client):
    text = client.get("/").text

    assert "No jobs yet." in text
    assert "jiffy enqueue" in text
    assert "No workers are running." in text


def test_the_first_page_counts_jobs_by_state_over_all_queues(client, plant, redis):
    jobs = ["failed low", "failed high", "queued low", "started low", "canceled low"]
    for job_id, (status, origin) in enumerate(map(str.split, jobs)):
        plant(f"job{job_id}", status=status, origin=origin)
    counts = read.census(redis).counts

    assert counts == {"queued": 1, "started": 1, "finished": 0, "failed": 2, "scheduled": 0,
                      "deferred": 0, "canceled": 1}  # fmt: skip


def test_the_first_page_shows_recent_jobs_by_description_or_call(client, work):
    plain = enqueue(numbers.add, 5, 3)
    described = enqueue.options(description="order 18")(numbers.add, 5, 4)
    work()
    text = client.get("/").text

    assert f'href="/jobs/{plain.id}">jobs.numbers.add</a>' in text
    assert '<span class="call">(5, 3)</span>' in text
    assert f'href="/jobs/{described.id}">order 18</a>' in text
    assert "jobs.numbers.add(5, 4)" in text


def test_the_list_shows_why_jobs_failed_were_canceled_or_are_retried(client, plant):
    broken = "A part before it, x, failed: ValueError: no card"
    plant("bad", status="failed", error="Traceback …\nValueError: no card")
    plant("huge", status="failed", error="".join(map(chr, range(20_000, 50_000))))
    plant("part", status="canceled", **{keys.REASON_FIELD: broken})
    plant("again", status="scheduled", **{keys.REASON_FIELD: "Traceback …\nOSError: no line"})
    plant("killed", status="stopped", error="Work-horse was stopped")
    text = client.get("/jobs").text

    for reason in ("ValueError: no card", broken, "Last attempt: OSError: no line",
                   "Work-horse was stopped"):  # fmt: skip
        assert f">{reason}</span>" in text


def test_the_page_of_workers_shows_what_each_runs(client, plant, plant_worker):
    for job_id in ("job1", "job2"):
        plant(job_id, status="started", call=["jobs.reports.weekly", None, [], {}])
    plant_worker("w1", state="busy", runs="job1", hostname="web", pid=12)
    plant_worker("of-rq-2", state="busy", current_job="job2")
    plant_worker("w3")
    text = client.get("/workers").text

    assert re.search("2 <small>of 3|2<small> of 3", client.get("/").text)
    assert "2 of 3 busy" in text
    assert (text.count("/jobs/job1"), text.count("/jobs/job2")) == (1, 1)


@pytest.mark.usefixtures("same_second")
def test_the_first_page_costs_the_same_for_any_number_of_jobs(client, plant, redis):
    def plant_and_count(numbers):
        for number in numbers:
            plant(f"job{number}", status=("failed", "finished", "queued")[number % 3])
        client.get("/")
        before = redis.info("stats")["total_commands_processed"]
        client.get("/")
        return redis.info("stats")["total_commands_processed"] - before

    few, many = plant_and_count(range(300)), plant_and_count(range(300, 900))

    # Not to the last one: the errors of the failed ones that are shown are read, too.
    assert abs(few - many) <= 25


def test_what_is_not_counted_is_named(client, redis, plant_worker, monkeypatch):
    monkeypatch.setattr(read, "_MOST_COUNTED", 100)
    redis.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(130)))
    for number in range(103):
        plant_worker(f"w{number}")
    text = client.get("/").text

    assert "30 more queues" in text
    assert "3 more workers" in text


def test_a_job_page_shows_the_call_and_the_result(client, work):
    job = enqueue.options(description="five and three")(numbers.add, 5, y=3)
    work()
    text = client.get(f"/jobs/{job.id}").text

    for shown in ("finished", "5, y=3", "five and three", ">8</pre>"):
        assert shown in text


def test_a_job_page_puts_the_cause_before_the_traceback(client, plant):
    plant("bad", status="failed", error="Traceback (most recent call last):\n  …\nValueError: no")

    assert '<p class="cause">ValueError: no</p>' in client.get("/jobs/bad").text


def test_a_job_page_shows_why_and_how_often_a_job_is_retried(client, plant, work):
    reason = {keys.REASON_FIELD: "Traceback …\nOSError: no line"}
    plant("again", status="scheduled", retries_left=2, **reason)
    plant("last", status="queued", retries_left=0, **reason)
    text, last = client.get("/jobs/again").text, client.get("/jobs/last").text
    ours = enqueue.options(retry=Retry(3, pause="1m"))(images.resize, "missing.jpg", 200)
    stock = enqueue.options(retry=rq.Retry(3, interval=60))(images.resize, "missing.jpg", 200)
    later = enqueue.options(in_="5m", retry=3)(numbers.add, 2, 3)
    work()

    assert "Error of the last attempt" in text
    assert '<p class="cause">OSError: no line</p>' in text
    assert "this one and 2 more" in text
    assert "this one only" in last
    assert "waiting for a retry, 2 of 3 left, <time" in client.get(f"/jobs/{ours.id}").text
    assert "waiting for a retry, 2 left, <time" in client.get(f"/jobs/{stock.id}").text
    assert "waiting for a retry" not in client.get(f"/jobs/{later.id}").text


def test_a_rate_limited_job_says_which_slots_it_waits_for(client, api, redis, work):
    queue = rq.Queue(connection=redis, serializer=rq.serializers.JSONSerializer)
    limit = RateLimit("stripe", 3)
    *held, last = [queue.enqueue(numbers.add, 1, 2, rate_limit=limit) for _ in range(4)]
    redis.hset(held[0].key, "status", "started")
    text = client.get(f"/jobs/{last.id}").text

    assert (
        "It waits for a slot of the rate limit &#39;stripe&#39; (3 of 3: 1 running, 2 queued)"
        in text
    )
    found = api("GET", f"/api/jobs/{last.id}").json
    slot = {"key": "stripe", "limit": 3, "running": 1, "queued": 2}
    assert (found["waits_for"], found["slot"]) == ("slot", slot)


def test_a_job_page_shows_the_jobs_that_it_waits_for(client, plant):
    plant("broken", status="failed", error="ValueError: no card")
    plant("ready", status="finished")
    ids = json.dumps(["broken", "ready", "never-there"])
    plant("after", status="deferred", dependency_ids=ids)
    first, second = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 4))
    text, of_chain = client.get("/jobs/after").text, client.get(f"/jobs/{second.id}").text

    assert 'failed</span> <span><a href="/jobs/broken">a job</a>' in text
    assert 'finished</span> <span><a href="/jobs/ready">a job</a>' in text
    assert "gone</span> <span><code>never-there</code>" in text
    assert "can only run once those that failed" in text
    assert f'queued</span> <span><a href="/jobs/{first.id}">' in of_chain
    assert "can only run once" not in of_chain


def test_the_first_parts_of_a_large_group_are_shown(client):
    parts = [part(numbers.add, number, 1) for number in range(150)]
    group = enqueue.group(parts, then=part(numbers.add, 1, 2))
    text = client.get(f"/jobs/{group.then.id}").text

    assert text.count("queued</span> <span><a") == 99
    assert re.search(r"[0-9]+ or more not shown", text)


def test_a_job_page_shows_the_progress(client, plant):
    progress = json.dumps({"fraction": 0.4, "note": "row 8"})
    plant("job1", status="started", **{keys.PROGRESS_FIELD: progress})
    text = client.get("/jobs/job1").text

    assert 'value="0.4"' in text
    assert "40% row 8" in text


def test_a_scheduled_job_shows_when_it_is_due(client):
    job = enqueue.options(in_="90m")(numbers.add, 1, 2)

    assert "in 1h" in client.get(f"/jobs/{job.id}").text
    assert "in 1h" in client.get("/").text


def test_an_unknown_job_is_not_found_in_words(client):
    answer = client.get("/jobs/nope")

    assert answer.status_code == 404
    assert "No job &#39;nope&#39;" in answer.text


@pytest.mark.parametrize(
    "path", ["/", "/jobs/x", "/rq/", "/rq/0/view/jobs", "/rq/0/data/workers.json"]
)
def test_without_redis_pages_give_the_reason(client, no_redis, path):
    answer = client.get(path)

    assert answer.status_code == 503
    assert "No Redis at redis://***@127.0.0.1:1/0 (connection refused)" in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/", "/?span=90d"])
def test_with_a_full_redis_the_overview_is_shown(client, redis, path):
    redis.config_set("maxmemory", 1)
    try:
        answer = client.get(path)
    finally:
        redis.config_set("maxmemory", 0)

    assert answer.status_code == 200


def test_a_page_of_the_users_own_needs_a_login_like_all_others(redis, environ):
    environ(DASHBOARD_PASSWORD="correct horse")
    page = Blueprint("mine", __name__)
    page.add_url_rule("/mine", view_func=lambda: "hello", endpoint="mine")
    client = create_app([page]).test_client()

    assert client.get("/mine").status_code == 302
    log_in(client)
    assert client.get("/mine").text == "hello"


def test_a_failure_of_ours_is_a_page_without_a_traceback(client, app):
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.view_functions["home.home"] = lambda: 1 / 0
    answer = client.get("/")

    assert answer.status_code == 500
    assert "The log of the web process has the details." in answer.text


def test_health_needs_no_login(stranger, plant_worker, redis):
    plant_worker("w1")
    redis.sadd(keys.WORKERS, keys.WORKER + "that-died")
    answer = stranger.get("/healthz")

    assert answer.status_code == 200
    assert answer.json == {"redis": "ok", "workers": 1, "scheduler": "none", "version": "0.1.0"}


def test_health_without_redis_is_503_with_the_reason_and_no_url(stranger, no_redis):
    answer = stranger.get("/healthz")

    assert answer.status_code == 503
    assert answer.json == {
        "redis": "away",
        "reason": "connection refused",
        "remedy": "Run 'python -m jiffy dev' or set REDIS_URL.",
        "version": "0.1.0",
    }


def test_the_page_of_a_change_that_was_refused_does_not_try_again(client, no_redis):
    """A GET of its address is another page."""
    refused = post(client, "/queues/default/pause", why="tea")
    page = client.get("/queues")

    assert (refused.status_code, page.status_code) == (503, 503)
    assert "recovers by itself" in page.text
    assert "recovers" not in refused.text
    assert "live.js" not in refused.text
