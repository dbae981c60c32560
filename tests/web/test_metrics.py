"""What Prometheus reads, and with which token."""

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jiffy import clock, keys
from jiffy.control import read
from jiffy.producer.enqueue import enqueue
from jobs import numbers
from tests.support import schedules
from tests.support.weekly import WEEK, slot, weekly


@pytest.fixture
def measure(app, api):
    """All that is measured now: {(name, label, …): value}."""

    def measured():
        app.extensions["jiffy.census"].forget()
        answer = api("GET", "/metrics")
        assert answer.status_code == 200
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    return measured


def test_it_needs_a_token(app, stranger, client, environ):
    environ(API_READ_TOKEN="reads")

    assert stranger.get("/metrics").status_code == 401
    assert client.get("/metrics").status_code == 401  # also who is logged in: it is for programs
    assert stranger.get("/metrics", headers={"Authorization": "Bearer no"}).status_code == 401
    assert stranger.get("/metrics", headers={"Authorization": "Bearer reads"}).status_code == 200


def test_without_any_token_it_is_closed(app, stranger, environ):
    environ(API_TOKEN=None)

    assert stranger.get("/metrics").status_code == 403


def test_it_is_prometheus_text(api):
    answer = api("GET", "/metrics")

    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.startswith("# HELP jiffy_jobs ")


def test_jobs_are_counted_by_queue_and_state_and_the_oldest_is_timed(measure, plant, redis):
    plant("job1", status="failed", origin="low")
    plant("job2", status="queued", enqueued_at="2026-01-01T00:00:00.000000Z")
    enqueue(numbers.add, 1, 2)
    seen = measure()

    assert seen["jiffy_jobs", "low", "failed"] == 1
    assert seen["jiffy_jobs", "default", "queued"] == 2
    assert seen["jiffy_oldest_job_seconds", "default"] > 86400
    assert seen["jiffy_oldest_job_seconds", "low"] == 0


def test_jobs_that_are_on_no_queues_list_are_counted_too(measure, api, plant, redis):
    plant("parked", status="queued", origin="low", **{keys.PARKED_FIELD: "jobs.numbers.add"})
    redis.delete(keys.queue("low"))
    redis.sadd(f"{keys.OWN}parked", "jobs.numbers.add")
    redis.zadd(keys.parked("jobs.numbers.add"), {"parked": 5})
    redis.sadd(f"{keys.RQ}rl-keys", "stripe", "acme")
    for limit in ("stripe", "acme"):
        redis.zadd(f"{keys.RQ}rl:{limit}:rate_limited", {limit: 5})
    seen = measure()

    assert (seen["jiffy_jobs", "", "queued"], seen["jiffy_jobs", "", "rate_limited"]) == (1, 2)
    assert seen["jiffy_jobs", "low", "queued"] == 0
    assert api("GET", "/api/queues").json["apart"] == {"queued": 1, "rate_limited": 2}


def test_workers_are_counted_by_state(measure, plant_worker):
    none = measure()
    for name, state in (("w1", "busy"), ("w2", "idle"), ("w3", "idle")):
        plant_worker(name, state=state)
    seen = measure()

    assert (none["jiffy_workers", "busy"], none["jiffy_workers", "idle"]) == (0, 0)
    assert (seen["jiffy_workers", "busy"], seen["jiffy_workers", "idle"]) == (1, 2)


def test_the_oldest_job_is_one_that_is_still_there(measure, plant, redis):
    for job_id in ("gone", "gone too", "there"):
        plant(job_id, status="queued", enqueued_at="2026-01-01T00:00:00.000000Z")
    redis.delete(keys.job("gone"), keys.job("gone too"))  # their time to live was over

    assert measure()["jiffy_oldest_job_seconds", "default"] > 86400


def test_the_oldest_job_is_timed_by_redis_clock(measure, plant, monkeypatch):
    plant("waits", status="queued")
    ahead = clock.now() + timedelta(minutes=15)
    monkeypatch.setattr(clock, "now", lambda: ahead)

    assert measure()["jiffy_oldest_job_seconds", "default"] < 300


def test_a_worker_whose_lease_has_been_over_for_seconds_is_dead(
    measure, plant_worker, redis, api, stranger
):
    for name in ("dead", "alive", "late", "of RQ"):
        plant_worker(name)
    now_s = redis.time()[0]
    redis.zadd(keys.LEASES, {"dead": now_s - 6, "late": now_s - 1, "alive": now_s + 10})

    assert measure()["jiffy_workers", "idle"] == 3
    assert api("GET", "/api/queues").json["queues"] == []
    assert stranger.get("/healthz").json["workers"] == 3


def test_the_schedule_is_measured(measure, redis):
    schedule = schedules.declare(redis, weekly(numbers.add, args=[2, 3]))
    before = measure()
    schedule = schedules.set_back(redis, schedule, "entry-jobs-numbers-add", slot(2))
    schedules.enqueue_due(schedule)
    schedules.run_next(schedule)
    redis.set(keys.LEADER, "{}")
    seen = measure()

    assert before["jiffy_scheduler_up",] == 0
    assert 0 <= before["jiffy_schedule_next_due_seconds",] <= WEEK.total_seconds()
    assert seen["jiffy_scheduler_up",] == 1
    assert seen["jiffy_schedule_entries",] == 1
    assert [seen["jiffy_ticks_total", what] for what in ("enqueued", "skipped", "missed")] == [
        1, 1, 2,
    ]  # fmt: skip


def test_a_queue_of_any_name_breaks_nothing(measure, redis):
    name = 'a"b\\c\n{} <d>'
    redis.sadd(keys.QUEUES, keys.queue(name))

    assert measure()["jiffy_jobs", name, "queued"] == 0


def test_what_is_measured_is_bounded(measure, redis, monkeypatch):
    monkeypatch.setattr(read, "_MOST_COUNTED", 100)
    redis.sadd(keys.QUEUES, *(keys.queue(f"q{number}") for number in range(130)))

    assert sum(name == "jiffy_oldest_job_seconds" for name, *_ in measure()) == 100


def test_without_redis_it_is_503(api, no_redis):
    assert api("GET", "/metrics").status_code == 503
