"""What stands around every page: the counters, the banners, and what a live page asks for."""

import hashlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.utils import utcformat

from jiffy import clock, keys
from jiffy.control import read
from jiffy.control.why import banners
from jiffy.dashboard import create_app, frame
from jiffy.producer.enqueue import enqueue
from jobs import numbers
from tests.support.newcomer import wait_until
from tests.web.conftest import PASSWORD, TOKEN, log_in, post

PAGES = ["/", "/schedule", "/jobs/seen", "/no-such-page"]


def test_every_page_shows_the_counters_and_the_environment(client, plant, plant_worker, leader):
    plant("seen", status="failed", error="boom")
    plant("next", status="queued", enqueued_at=utcformat(clock.from_wall(clock.wall() - 185)))
    plant("later", status="queued")
    plant("far", status="scheduled")
    plant_worker("w1")
    for path in PAGES:
        text = words(client.get(path).text)

        for shown in ("development", "2 waiting oldest 3m", "0 running", "1 scheduled", "1 failed",
                      "1 worker", "scheduler running"):  # fmt: skip
            assert shown in text, path


def test_what_was_done_in_a_day_stands_beside_what_waits(client, work):
    for _ in range(3):
        enqueue.options(result_ttl=0)(numbers.add, 1, 2)
    work()

    assert "0 failed 3 done in 24 h" in words(client.get("/").text)


def test_what_was_done_fits_into_a_cookie(client):
    odd = "".join(hashlib.sha256(b"%d" % number).hexdigest() for number in range(100))
    answers = [post(client, "/workers/stop-job", job=odd[number:]) for number in range(20)]
    text = client.get("/workers").text

    assert {one.status_code for one in answers} == {303}
    assert max(len(str(one.headers)) for one in answers) < 2500
    assert odd[19:119] in text
    assert text.count('class="done"') == 2


def test_a_stranger_sees_no_counters(stranger):
    assert 'id="strip"' not in stranger.get("/login").text


@pytest.mark.parametrize("environment", ["development", "production"])
def test_the_badge_names_the_environment(environ, redis, environment):
    environ(DASHBOARD_PASSWORD=PASSWORD, JIFFY_ENV=environment)
    client = create_app().test_client()
    client.environ_base["wsgi.url_scheme"] = "https"
    log_in(client)

    assert f'class="environment {environment}"' in client.get("/").text


@pytest.mark.usefixtures("same_second")
def test_all_queues_are_counted_once_a_second_however_many_watch(client, redis, plant):
    plant("one", status="queued")
    client.get("/schedule")
    before = redis.info("commandstats").get("cmdstat_eval", {}).get("calls", 0)
    texts = [client.get("/schedule").text for _ in range(5)]
    after = redis.info("commandstats").get("cmdstat_eval", {}).get("calls", 0)

    assert after == before
    assert all("<b>1</b>" in text for text in texts)


def test_300_queues_and_500_workers_are_counted_in_one_round_trip(redis, plant, plant_worker):
    for number in range(300):
        plant(f"job{number}", status="queued", origin=f"q{number:03}")
    for number in range(500):
        plant_worker(f"w{number}", queues="q000,q001")
    redis.sadd(keys.WORKERS, keys.WORKER + "that-died")
    census = read.census(redis)

    assert (len(census.queues), census.counts["queued"], census.workers) == (300, 300, 500)
    assert [queue.name for queue in census.queues if queue.is_heard] == ["q000", "q001"]
    assert (census.queues_left_out, census.workers_left_out) == (0, 0)


def test_no_number_of_queues_hides_those_that_workers_listen_to(redis, plant_worker, monkeypatch):
    monkeypatch.setattr(read, "_MOST_COUNTED", 10)
    plant_worker("w1", queues="ours,not-there")
    redis.sadd(
        keys.QUEUES, *(keys.queue(f"q{number}") for number in range(2000)), keys.queue("ours")
    )
    census = read.census(redis)

    assert [queue.name for queue in census.queues if queue.is_heard] == ["ours"]
    assert (len(census.queues), census.queues_left_out) == (10, 1991)


def test_keys_of_other_types_are_counted_as_nothing(redis, plant):
    plant("one", status="queued")
    redis.set(keys.queue("odd"), "text")
    redis.sadd(keys.QUEUES, keys.queue("odd"), b"rq:queue:\xff")
    redis.set(keys.REGISTRIES["failed"] + "default", "text")
    redis.set(keys.WORKERS, "text")
    redis.hset(keys.job("one"), "enqueued_at", "soon")
    census = read.census(redis)

    assert [queue.is_unreadable for queue in census.queues] == [True, True, True]
    assert (census.counts["queued"], census.workers, census.waits_since) == (1, 0, None)


def test_the_banners_name_what_is_wrong(redis, plant, plant_worker, declare):
    for name in ("unheard", "heard", "dead"):
        plant(f"on-{name}", status="queued", origin=name)
    redis.set(keys.SUSPENDED, 1)
    alone = read.census(redis)
    plant_worker("w1", queues="heard,other")
    redis.sadd(keys.workers_of("dead"), keys.WORKER + "that-died")
    redis.zadd(keys.ENTRIES, {"entry": 1})
    seen = [*banners(read.census(redis))]
    found, commands = (
        {one.name: getattr(one, name) for one in seen} for name in ("text", "command")
    )

    assert [banner.name for banner in banners(alone)] == ["suspended", "no-workers", "forgetful"]
    assert list(found) == ["suspended", "unheard", "forgetful", "no-scheduler"]
    assert found["unheard"] == "No worker listens to queues “dead”, “unheard”."
    assert commands["unheard"] == "python -m jiffy worker dead unheard"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", ["/api/jobs/x", "/rq/0/data/job/x.json"])
def test_what_a_job_carries_is_looked_through_once_for_a_live_page(client, api, plant, path):
    plant("x", result=">" * 300_000)
    headers = {"X-Requested-With": "live"}
    ask = api if path.startswith("/api/") else client.open
    answer = ask(path=path, method="GET", headers=headers)

    assert (answer.status_code, answer.text.count(">")) == (200, 300_000)


def test_a_live_page_gets_nothing_where_nothing_has_changed(client, plant):
    plant("seen")
    live = {"X-Requested-With": "live"}
    first = client.get("/jobs/seen", headers=live)
    again = client.get("/jobs/seen", headers=live | {"If-None-Match": first.headers["ETag"]})
    plant("seen", status="failed", error="boom")
    changed = client.get("/jobs/seen", headers=live | {"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")
    assert changed.status_code == 200
    assert "<nav" not in first.text


def words(html):
    """The text of a page, as it is read."""
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def test_while_redis_does_not_answer_no_one_waits_behind_others_who_wait(app, monkeypatch):
    """Each would wait for the whole time-out, one after another."""
    asked, reads = set(), []

    def moment():
        asked.add(threading.get_ident())
        return clock.monotonic()

    def never_answered(_):
        reads.append(1)
        wait_until(lambda: len(asked) == 5)
        raise RedisTimeoutError("Timeout reading from socket")

    monkeypatch.setattr(read, "census", never_answered)
    app, token = create_app(), {"Authorization": f"Bearer {TOKEN}"}
    monkeypatch.setattr(frame, "clock", SimpleNamespace(monotonic=moment))
    with ThreadPoolExecutor(5) as threads:
        answers = threads.map(
            lambda _: app.test_client().get("/api/queues", headers=token).status_code, range(5)
        )

    assert (list(answers), len(reads)) == ([503] * 5, 1)
