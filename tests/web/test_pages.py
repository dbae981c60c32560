"""What the pages tell."""

import json

import pytest
import rq
from rq.rate_limit import RateLimit

from jiffy import Retry, keys, part, read, result
from jiffy.producer.enqueue import enqueue
from jobs import numbers


def test_the_first_page_says_so_when_there_is_nothing_yet(client):
    text = client.get("/").text

    assert "No jobs yet." in text
    assert "jiffy enqueue" in text
    assert "No workers are running." in text


def test_the_first_page_counts_jobs_by_state_over_all_queues(redis, plant):
    for number, (status, origin) in enumerate(
        [
            ("failed", "low"),
            ("failed", "high"),
            ("queued", "low"),
            ("started", "low"),
            ("canceled", "low"),
        ]
    ):
        plant(f"job{number}", status=status, origin=origin)
    counts = read.overview(redis).counts

    assert counts == {"queued": 1, "started": 1, "finished": 0, "failed": 2, "scheduled": 0,
                      "deferred": 0, "canceled": 1}  # fmt: skip


def test_the_first_page_shows_recent_jobs_and_how_long_they_took(client, work):
    job = enqueue(numbers.add, 5, 3)
    work()
    text = client.get("/").text

    assert f'href="/jobs/{job.id}"' in text
    assert "jobs.numbers.add" in text
    assert "5, 3" in text


def test_the_first_page_tells_why_a_job_failed(client, plant):
    plant("bad", status="failed", error="Traceback …\nValueError: no card")
    plant("huge", status="failed", error="".join(map(chr, range(20_000, 50_000))))

    assert "ValueError: no card</span>" in client.get("/").text


def test_the_first_page_tells_why_a_job_was_canceled_or_is_tried_again(client, plant):
    broken = "A part before it, x, failed: ValueError: no card"
    plant("part", status="canceled", **{keys.REASON_FIELD: broken})
    plant("again", status="scheduled", **{keys.REASON_FIELD: "Traceback …\nOSError: no line"})
    plant("killed", status="stopped", error="Work-horse was stopped")
    text = client.get("/").text

    assert f">{broken}</span>" in text
    assert ">Last attempt: OSError: no line</span>" in text
    assert ">Work-horse was stopped</span>" in text


def test_the_first_page_shows_a_description_that_was_given_in_place_of_the_call(client):
    described = enqueue.options(description="order 18")(numbers.add, 5, 3)
    plain = enqueue(numbers.add, 5, 4)
    text = client.get("/").text

    assert f'href="/jobs/{described.id}">order 18</a>' in text
    assert "jobs.numbers.add(5, 3)" in text
    assert f'href="/jobs/{plain.id}">jobs.numbers.add</a>' in text


def test_a_queue_that_nobody_listens_to_is_pointed_out(client, plant, plant_worker):
    for name in ("nobody", "somebody"):
        plant(f"on-{name}", status="queued", origin=name)
    plant("over", status="finished", origin="done")
    many = [f"queue-of-a-worker-with-many-{number}" for number in range(30)]
    plant_worker("w1", queues=",".join([*many, "somebody"]))
    text = client.get("/").text

    assert "No worker listens to “nobody”." in text
    assert text.count("no worker</span>") == 1


def test_nothing_is_said_of_queues_where_workers_are_left_out(client, plant, plant_worker):
    plant("waits", status="queued", origin="nobody")
    for number in range(read.MOST + 1):
        plant_worker(f"w{number}")

    assert "No worker listens" not in client.get("/").text


def test_the_first_page_shows_who_works_on_what(client, plant, plant_worker):
    plant("job1", status="started", call=["jobs.reports.weekly", None, [], {}])
    plant_worker("w1", state="busy", runs="job1", hostname="web", pid=12)
    plant_worker("w2")
    text = client.get("/").text

    assert "1 of 2 busy" in text
    assert "jobs.reports.weekly" in text


def test_the_first_page_shows_what_a_worker_of_rq_2_works_on(client, plant, plant_worker):
    plant("job1", status="started", call=["jobs.reports.weekly", None, [], {}])
    plant_worker("w1", state="busy", current_job="job1")

    assert client.get("/").text.count("/jobs/job1") == 2


def test_the_first_page_warns_when_jobs_wait_and_nobody_works(client, plant):
    plant("job1", status="queued")

    assert "No workers are running." in client.get("/").text


def test_the_first_page_warns_when_all_workers_are_suspended(client, redis):
    redis.set(keys.SUSPENDED, 1)

    assert "suspended" in client.get("/").text


def test_the_first_page_costs_the_same_for_any_number_of_jobs(client, plant, redis):
    def plant_and_count(numbers):
        for number in numbers:
            plant(f"job{number}", status=("failed", "finished", "queued")[number % 3])
        client.get("/")
        before = redis.info("stats")["total_commands_processed"]
        client.get("/")
        return redis.info("stats")["total_commands_processed"] - before

    few, many = plant_and_count(range(120)), plant_and_count(range(120, 600))

    # Not to the last one: of the jobs that are shown, the failed ones are asked for their errors.
    assert abs(few - many) <= read.RECENT


def test_hundreds_of_queues_and_workers_are_cut_off_and_it_is_said(client, redis, plant_worker):
    redis.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(130)))
    for number in range(103):
        plant_worker(f"w{number}")
    text = client.get("/").text

    assert "30 more queues" in text
    assert "3 more workers" in text


def test_a_job_page_tells_what_was_asked_and_what_came_out(client, work):
    job = enqueue.options(description="five and three")(numbers.add, 5, y=3)
    work()
    text = client.get(f"/jobs/{job.id}").text

    assert "finished" in text
    assert "5, y=3" in text
    assert "five and three" in text
    assert ">8</pre>" in text


def test_a_job_page_puts_the_cause_before_the_traceback(client, plant):
    plant(
        "bad", status="failed", error="Traceback (most recent call last):\n  …\nValueError: no card"
    )
    text = client.get("/jobs/bad").text

    assert '<p class="cause">ValueError: no card</p>' in text


def test_a_job_page_tells_why_a_job_is_tried_again_and_how_often(client, plant):
    reason = {keys.REASON_FIELD: "Traceback …\nOSError: no line"}
    plant("again", status="scheduled", retries_left=2, **reason)
    plant("last", status="queued", retries_left=0, **reason)
    text = client.get("/jobs/again").text

    assert "Error of the last attempt" in text
    assert '<p class="cause">OSError: no line</p>' in text
    assert "this one and 2 more" in text
    assert "this one only" in client.get("/jobs/last").text


def test_a_job_page_tells_a_retry_from_another_scheduled_job(client, work):
    job = enqueue.options(retry=Retry(3, pause="1m"))(numbers.add, 2, "x")
    stock = enqueue.options(retry=rq.Retry(3, interval=60))(numbers.add, 2, "x")
    later = enqueue.options(in_="5m", retry=3)(numbers.add, 2, 3)
    work()

    assert "waiting for a retry, 2 of 3 left, <time" in client.get(f"/jobs/{job.id}").text
    assert "waiting for a retry, 2 left, <time" in client.get(f"/jobs/{stock.id}").text
    assert "waiting for a retry" not in client.get(f"/jobs/{later.id}").text


def test_a_rate_limited_job_says_which_slots_it_waits_for(client, api, redis, work):
    queue = rq.Queue(connection=redis, serializer=rq.serializers.JSONSerializer)
    limit = RateLimit("stripe", 3)
    *held, last = [queue.enqueue(numbers.add, 1, 2, rate_limit=limit) for _ in range(4)]
    redis.hset(held[0].key, "status", "started")
    text = client.get(f"/jobs/{last.id}").text

    assert "waiting for a slot of &#39;stripe&#39; (3 of 3: 1 running, 2 queued)" in text
    found = api("GET", f"/api/jobs/{last.id}").json
    assert (found["waits_for"], found["slot"]) == (
        "slot", {"key": "stripe", "limit": 3, "running": 1, "queued": 2}
    )  # fmt: skip


def test_a_job_page_shows_what_the_job_waits_for(client, plant):
    plant("broken", status="failed", error="ValueError: no card")
    plant("ready", status="finished")
    ids = json.dumps(["broken", "ready", "never-there"])
    plant("after", status="deferred", dependency_ids=ids)
    text = client.get("/jobs/after").text

    assert 'failed</span> <a href="/jobs/broken">broken</a>' in text
    assert 'finished</span> <a href="/jobs/ready">ready</a>' in text
    assert "gone</span> <code>never-there</code>" in text
    assert "can only run once those that failed" in text


def test_a_part_of_a_chain_leads_to_the_one_before(client):
    first, second = enqueue.chain(part(numbers.add, 2, 3), part(numbers.add, result, 4))
    text = client.get(f"/jobs/{second.id}").text

    assert f'queued</span> <a href="/jobs/{first.id}">{first.id}</a>' in text
    assert "can only run once" not in text


def test_of_a_large_group_the_first_parts_are_shown(client):
    parts = [part(numbers.add, number, 1) for number in range(50)]
    team = enqueue.group(parts, then=part(numbers.add, 1, 2))
    text = client.get(f"/jobs/{team.then.id}").text

    assert text.count("queued</span> <a") == 20
    assert "… and 30 more." in text


def test_a_job_page_shows_how_far_the_job_is(client, plant):
    plant(
        "job1",
        status="started",
        **{keys.PROGRESS_FIELD: json.dumps({"fraction": 0.4, "note": "row 8"})},
    )
    text = client.get("/jobs/job1").text

    assert 'value="0.4"' in text
    assert "40% row 8" in text


def test_a_scheduled_job_tells_when_it_is_due(client):
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
def test_without_redis_pages_say_so_calmly(client, no_redis, path):
    answer = client.get(path)

    assert answer.status_code == 503
    assert "No Redis at redis://***@127.0.0.1:1/0 (connection refused)" in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_a_page_of_the_users_own_is_closed_like_all_others(redis, environ):
    from flask import Blueprint

    from jiffy.dashboard import create_app
    from jiffy.settings import settings
    from tests.web.conftest import log_in

    environ(DASHBOARD_PASSWORD="correct horse")
    page = Blueprint("mine", __name__)
    page.add_url_rule("/mine", view_func=lambda: "hello", endpoint="mine")
    client = create_app(settings(), [page]).test_client()

    assert client.get("/mine").status_code == 302
    log_in(client)
    assert client.get("/mine").text == "hello"


def test_a_failure_of_ours_is_a_page_without_a_traceback(client, app):
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.view_functions["home.home"] = lambda: 1 / 0
    answer = client.get("/")

    assert answer.status_code == 500
    assert "The log of the web process has the details." in answer.text


def test_health_is_told_without_a_login(stranger, plant_worker, redis):
    plant_worker("w1")
    redis.sadd(keys.WORKERS, keys.WORKER + "died-without-a-word")
    answer = stranger.get("/healthz")

    assert answer.status_code == 200
    assert answer.json == {
        "redis": "ok",
        "workers": 1,
        "scheduler": "none",
        "version": "0.1.0",
    }


def test_health_without_redis_is_503_with_the_reason_and_no_address(stranger, no_redis):
    answer = stranger.get("/healthz")

    assert answer.status_code == 503
    assert answer.json == {
        "redis": "away",
        "reason": "connection refused",
        "remedy": "Run 'python -m jiffy dev' or set REDIS_URL.",
        "version": "0.1.0",
    }
