"""The pages of queues, workers and the system, and the banners: what a person sees and does."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from urllib.parse import quote, unquote

import pytest
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.utils import utcformat

from jiffy import actions, clock, every, keys
from jiffy.cli import load, run
from jiffy.control import bulk, entries, pauses, read
from jiffy.control.why import banners
from jiffy.dashboard.pages import system
from jiffy.dashboard.pages.system import use_of
from jiffy.redis_io import Memory
from jobs import numbers
from tests.support.newcomer import wait_until
from tests.web.conftest import post
from tests.web.test_frame import words


def test_a_queue_has_what_waits_how_long_and_who_serves_it(client, plant, plant_worker, plant_flow):
    plant_flow({"default": [(42, 0), (12, 60)], "low": [(0, 0), (6, 3)]})
    for number in range(12):
        long_ago = utcformat(clock.from_wall(clock.wall() - 185 + number))
        plant(f"job{number}", status="queued", enqueued_at=long_ago)
    plant("now", status="started", timeout=60, started_at=utcformat(clock.now()))
    plant("bad", status="failed", origin="low", error="boom")
    plant_worker("w1", state="busy", runs="now")
    plant_worker("w2", queues="default,other")
    all_of_them, one = words(client.get("/queues").text), words(client.get("/queues/default").text)

    assert re.search(r"default 12 3m\d+s 3.0/s 6.0/s 4 s Last 5 minutes", all_of_them)
    assert "at most 42 1 of 2 0 0" in all_of_them
    assert "low 0 — 54/min 18/min — Last 5 minutes" in all_of_them
    assert re.search(r"12 waiting 3m\d+s oldest 3.0/s in 6.0/s out 4 s to drain it", one)
    assert "1 of 2 running 0 scheduled 0 failed" in one
    assert "the first 10 of 12" in one


def test_a_queue_is_paused_and_resumed_with_who_and_why(client, plant, redis):
    plant("one", status="queued")
    paused = post(client, "/queues/default/pause", why="the disk is full", until="2h")
    texts = [words(client.get(path).text) for path in ("/queues/default", "/queues", "/")]
    resumed = post(client, "/queues/default/resume")
    unclear = post(client, "/queues/default/pause", why="the disk is full", until="10")
    after = words(client.get("/queues/default").text)

    assert (paused.status_code, resumed.status_code) == (303, 303)
    assert (unclear.status_code, "such as 10m or 2h" in unclear.text) == (422, True)
    for text in texts:
        assert "Queue “default” is paused by admin" in text
        assert "the disk is full" in text
    assert "Queue “default” is paused" not in after
    assert pauses.read_pauses(redis) == []


def test_a_function_is_paused_and_resumed(client, redis):
    paused = post(client, "/functions/pause", function="jobs.numbers.add", why="it is wrong")
    redis.sadd(f"{keys.OWN}parked", "jobs.numbers.add")
    redis.zadd(keys.parked("jobs.numbers.add"), {"one": 1})
    text = words(client.get("/queues").text)
    post(client, "/functions/resume", function="jobs.numbers.add")

    assert paused.status_code == 303
    assert "jobs.numbers.add Paused by admin" in text
    assert ": it is wrong. 1 job waits" in text
    assert pauses.read_pauses(redis) == []
    assert post(client, "/functions/pause", function="no path", why="x").status_code == 422


def test_a_queue_is_emptied_only_with_its_name_typed(client, plant, redis):
    for number in range(3):
        plant(f"job{number}", status="queued")
    plant("other", status="queued", origin="low")
    wrong = post(client, "/queues/default/empty", typed="defualt")
    left = redis.llen(keys.queue("default"))
    post(client, "/queues/default/empty", typed="default", action="retry", q="queue:low")

    assert (wrong.status_code, left) == (422, 3)
    assert "Deleted 3 jobs" in words(client.get("/queues").text)
    assert redis.llen(keys.queue("default")) == 0
    assert not redis.exists(keys.job("job1"))
    assert redis.llen(keys.queue("low")) == 1


def test_emptying_a_queue_deletes_what_its_form_showed(client, plant, redis):
    plant("shown", status="queued")
    parked = keys.parked("jobs.numbers.add")
    plant("parked", status="queued", **{"jiffy:parked": "jobs.numbers.add"})
    redis.lrem(keys.queue("default"), 0, "parked")
    redis.sadd(f"{keys.OWN}parked", "jobs.numbers.add")
    redis.zadd(parked, {"parked": 1})
    client.get("/")
    plant("later", status="queued")  # all queues are counted once a second
    text = client.get("/queues/default").text
    [asked] = re.findall('name="asked" value="([^"]+)"', text)
    post(client, "/queues/default/empty", typed="default", asked=asked)

    assert "Delete 1 job, and its jobs of paused functions</button>" in text
    assert redis.lrange(keys.queue("default"), 0, -1) == [b"later"]
    assert not redis.exists(keys.job("shown"), keys.job("parked"), parked)


def test_a_bulk_action_cancels_no_job_that_waits_for_a_retry_by_now(
    client, plant, redis, monkeypatch
):
    """Its form was about those that had not begun."""
    plant("busy", status="queued")
    each, scheduled = bulk.each, keys.jobs_in("scheduled", "default")

    def after_its_first_try(*args):
        redis.lpop(keys.queue("default"))
        redis.hset(keys.job("busy"), "status", "scheduled")
        redis.zadd(scheduled, {"busy": 9e9})
        return each(*args)

    monkeypatch.setattr(bulk, "each", after_its_first_try)
    post(client, "/jobs/all", q="state:queued", action="cancel")

    assert redis.zrange(scheduled, 0, -1) == [b"busy"]
    assert "is scheduled. It has changed meanwhile." in words(client.get("/jobs").text)


def test_two_people_may_delete_the_same_jobs_at_once(client, plant, redis, monkeypatch):
    plant("first", status="failed")
    plant("second", status="failed")
    each = bulk.each

    def after_the_other(*args):
        actions.delete("first")
        return each(*args)

    monkeypatch.setattr(bulk, "each", after_the_other)
    post(client, "/jobs/act", action="delete", sure="yes", id=["first", "second"])

    assert not redis.exists(keys.job("first"), keys.job("second"))
    assert "Deleted 1 job. 1 left as they are: No job" in words(client.get("/jobs").text)


def test_emptying_a_queue_deletes_no_job_that_a_worker_runs_meanwhile(
    client, plant, redis, work, monkeypatch
):
    plant("busy", status="queued")
    each = bulk.each

    def after_a_worker(*args):
        work()
        return each(*args)

    monkeypatch.setattr(bulk, "each", after_a_worker)
    post(client, "/queues/default/empty", typed="default")

    assert redis.hget(keys.job("busy"), "status") == b"finished"


@pytest.mark.parametrize(
    "name",
    ["*", "l*", "low state:failed", "other queue:low", '"low"', 'l"ow', '"', "low x", "ло:w"],
)
def test_a_queues_page_means_that_queue_alone_whatever_its_name(client, plant, redis, name):
    """Anyone who can enqueue chooses the name, and what is emptied is deleted for good."""
    plant("mine", status="queued", origin=name)
    plant("other", status="queued", origin="low")
    plant("failed", status="failed", origin="low", error="boom")
    path = f"/queues/{quote(name)}"
    text = client.get(path).text
    links = re.findall('href="(/jobs[?]q=queue:[^"]*)"', text)
    listed = [client.get(unescape(link)).text for link in links]
    post(client, f"{path}/empty", typed=name)

    assert [re.findall('<tr id="job-([^"]*)"', page) for page in listed] == [["mine"]]
    assert redis.exists(*map(keys.job, ("other", "failed"))) == 2
    assert not redis.exists(keys.job("mine"))


@pytest.mark.parametrize("name", ["items", "get", "update", "__class__"])
def test_a_queue_may_be_named_like_a_method_of_a_dict(client, plant, name):
    """In a template, `found["items"]` is that method where the dict has no such key."""
    plant("waits", status="queued", origin=name)
    pages = [client.get(path) for path in ("/", "/queues", f"/queues/{name}")]

    assert [page.status_code for page in pages] == [200, 200, 200]
    assert not any('class="paused"' in page.text for page in pages)


@pytest.mark.parametrize(
    ("what", "path"),
    [({"queue": "default"}, "/queues/default"), ({"function": "jobs.numbers.add"}, "/functions")],
)
def test_a_colleagues_pause_is_neither_replaced_nor_ended_unseen(client, plant, redis, what, path):
    plant("waits", status="queued")
    pauses.pause(**what, why="a deploy", who="bob")
    page = client.get("/queues" if "function" in what else path).text
    [shown] = re.findall('name="since" value="([^"]+)"', page)
    pauses.pause(**what, why="fraud", who="ann")
    answers = [
        post(client, f"{path}/pause", **what, why="a deploy", until="10m"),
        post(client, f"{path}/resume", **what, since=shown),
    ]
    [one] = pauses.read_pauses(redis)

    assert [answer.status_code for answer in answers] == [409] * 2
    assert all("ann: fraud. Nothing was changed." in answer.text for answer in answers)
    assert (one.who, one.until) == ("ann", None)
    assert post(client, f"{path}/resume", **what, since=f"{one.since}").status_code == 303
    assert pauses.read_pauses(redis) == []


def test_a_paused_function_does_not_pause_the_queue_of_its_name(client, plant):
    plant("waits", status="queued", origin="jobs.numbers.add")
    pauses.pause(function="jobs.numbers.add", why="tea")
    of_queue = client.get("/queues/jobs.numbers.add").text
    pauses.pause(queue="jobs.numbers.add", why="coffee")
    client.application.extensions["jiffy.census"].forget()
    of_all = client.get("/queues").text

    assert 'id="paused-here"' not in of_queue
    assert "tea" in of_all[of_all.index("Paused functions") :]
    assert 'coffee">paused' in of_all


def test_a_queue_whose_workers_are_all_quiet_has_none(client, plant, plant_worker, redis):
    plant("waits", status="queued")
    plant_worker("w", **{keys.MEMORY_FIELD: "1", keys.QUIET_FIELD: "yes"})
    redis.zadd(keys.LEASES, {"w": 9e9})
    page, job = client.get("/queues").text, words(client.get("/jobs/waits").text)

    assert "no worker" in words(page)
    assert "No worker listens to queue “default”" in job
    assert "busy" not in job
    assert bulk.queue_of_workers(redis) is None


@pytest.mark.parametrize("path", ["/queues/no-such", "/queues?sort=color"])
def test_what_is_not_there_is_a_page_that_says_so(client, path):
    answer = client.get(path)

    assert answer.status_code == 404
    assert "no-such" in answer.text or "color" in answer.text


def test_queues_are_sorted_by_what_a_person_asks_for(client, plant):
    for name, count in (("a", 1), ("b", 3), ("c", 2)):
        for number in range(count):
            plant(f"{name}{number}", status="queued", origin=name)
    text = client.get("/queues?sort=waiting").text

    assert text.index('id="queue-b"') < text.index('id="queue-c"') < text.index('id="queue-a"')


def test_more_than_100_workers_are_on_pages_that_say_how_many_there_are(client, plant_worker):
    for number in range(203):
        plant_worker(f"w{number:03}")
    first, last = client.get("/workers").text, client.get("/workers?from=200").text

    assert "1 to 100 of 203" in words(first)
    assert 'href="/workers?from=100">Next' in first
    assert last.count('id="worker-') == 3
    assert "201 to 203 of 203" in words(last)


def test_a_worker_shows_its_job_against_its_limit_and_a_late_heartbeat(
    client, plant, plant_worker, monkeypatch
):
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    started = utcformat(now - timedelta(seconds=90))
    plant("now", status="started", timeout=100, started_at=started)
    plant_worker("w1", state="busy", runs="now", last_heartbeat=started, hostname="web", pid=7)
    plant_worker("w2", last_heartbeat=utcformat(now - timedelta(seconds=999)))
    ours = {"dyno": "worker.3", "release": "4f2a" * 10, "memory": 93 << 20, "quiet": "yes"}
    plant_worker("w3", **{f"jiffy:{name}": value for name, value in ours.items()})
    text = client.get("/workers").text

    assert "w3 quiet worker.3 · 4f2a4f2a4f2…" in words(text)
    assert "93 MB" in text
    assert 'action="/workers/w3/resume"' in text
    assert "/quiet" not in text  # w1 and w2 are not Jiffy's: they do not know that
    assert "1m30s of 1m40s" in words(text)
    assert text.count('class="number bad"') == 1


@pytest.mark.parametrize("skew_s", [-600, 600])
def test_what_has_come_does_not_depend_on_the_web_process_clock(
    client, declare, redis, plant, plant_worker, monkeypatch, skew_s
):
    declare(every("1h", numbers.add, args=[2, 3], name="nightly"))
    entries.pause(redis, "nightly", who="ann", why="a deploy", until="5m")
    pauses.pause(queue="low", who="bob", why="a deploy", until="5m")
    now = clock.now()
    plant("next", status="scheduled")
    redis.zadd(keys.REGISTRIES["scheduled"] + "default", {"next": now.timestamp() + 300})
    plant_worker("w1", last_heartbeat=utcformat(now), **{keys.MEMORY_FIELD: "1"})
    plant_worker("w2", last_heartbeat=utcformat(now - timedelta(seconds=300)))
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=skew_s))
    workers = words(client.get("/workers").text)

    assert ("w1 no heartbeat" in workers, "w2 no heartbeat" in workers) == (False, True)
    assert "It waits for its time" in words(client.get("/jobs/next").text)
    assert "Paused by ann" in words(client.get("/schedule/nightly").text)
    assert "is paused by bob" in words(client.get("/").text)


def test_a_worker_and_its_job_can_be_stopped(client, redis, plant, plant_worker):
    plant("now", status="started", worker_name="w1")
    plant_worker("w1", state="busy", runs="now")
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(PUBSUB_CHANNEL_TEMPLATE % "w1")
        pubsub.get_message(timeout=5)
        answers = [
            post(client, "/workers/stop-job", job="now"),
            post(client, "/workers/w1/quiet"),
            post(client, "/workers/w1/resume"),
            post(client, "/workers/w1/stop"),
        ]
        heard = [json.loads(pubsub.get_message(timeout=5)["data"]) for _ in answers]

    assert [answer.status_code for answer in answers] == [303] * 4
    assert [one["command"] for one in heard] == ["stop-job", "quiet", "resume", "shutdown"]
    assert "Asked w1 to stop" in client.get("/workers").text
    assert post(client, "/workers/gone/stop").status_code == 404
    assert client.get("/workers/w1/stop").status_code == 405


def test_a_worker_with_any_name_has_its_buttons(client, redis, plant_worker):
    plant_worker("host/1", **{keys.MEMORY_FIELD: "1"})
    [url] = re.findall('action="(/workers/[^"]+/quiet)"', client.get("/workers").text)
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(PUBSUB_CHANNEL_TEMPLATE % "host/1")
        pubsub.get_message(timeout=5)

        assert post(client, unquote(url)).status_code == 303


def test_a_worker_that_does_not_listen_is_not_said_to_have_been_asked(client, plant_worker):
    plant_worker("w1")
    answers = [post(client, f"/workers/w1/{action}") for action in ("quiet", "resume", "stop")]

    assert [answer.status_code for answer in answers] == [409] * 3
    assert "does not respond" in answers[0].text
    assert "Asked" not in client.get("/workers").text


def test_once_all_workers_are_dead_nothing_is_said_to_run(client, redis, plant, plant_worker):
    plant("now", status="started", worker_name="w1")
    plant("next", status="queued")
    died = utcformat(clock.from_wall(clock.wall() - 60))
    plant_worker("w1", state="busy", runs="now", last_heartbeat=died, **{keys.MEMORY_FIELD: "1"})
    redis.zadd(keys.LEASES, {"w1": redis.time()[0] - 50})
    paths = ("/jobs/now", "/jobs/next", "/workers", "/queues/default")
    now, following, workers, queue = (words(client.get(path).text) for path in paths)

    assert "Why it is not running No workers are running." in now
    assert "Why it is not running No workers are running." in following
    assert "0 workers" in workers
    assert ("w1 no heartbeat" in workers, "w1 no heartbeat" in queue) == (True, True)
    assert client.get("/rq/0/data/workers.json").json["workers"][0]["state"] == "no heartbeat"
    redis.lrem(keys.queue("default"), 0, "next")
    client.application.extensions["jiffy.census"].forget()
    assert 'id="no-workers"' in client.get("/").text  # also where nothing waits


def test_where_those_that_are_next_are_gone_it_is_not_said_that_nothing_waits(client, redis, plant):
    for number in range(11):
        plant(f"job{number}", status="queued")
    redis.delete(*(keys.job(f"job{number}") for number in range(10)))
    gone = client.get("/queues/default").text
    redis.delete(keys.queue("default"))
    client.application.extensions["jiffy.census"].forget()
    nothing = client.get("/queues/default").text

    assert ("The first ones are gone" in gone, "Nothing is waiting" in gone) == (True, False)
    assert "Nothing is waiting" in nothing


def test_pausing_an_unknown_name_says_so(client, redis, capsys):
    redis.sadd(keys.QUEUES, keys.queue("default"))
    for kind, name in (
        ("queue", "defualt"),
        ("queue", "default"),
        ("function", "jobs.numbers.add"),
    ):
        run(load("pause"), [kind, name, "--why", "x"])
    said = capsys.readouterr().out.splitlines()
    post(client, "/functions/pause", function="jobs.numbers.ad", why="x")
    page = client.get("/queues").text

    assert said == [
        "defualt is paused. No job has been on a queue of this name yet (did you mean 'default'?).",
        "default is paused.",
        "jobs.numbers.add is paused.",
    ]
    assert "Paused jobs.numbers.ad. " in page
    assert "It is not known here, though: No function" in page


def test_names_of_workers_that_are_gone_hide_none_that_run(client, redis, plant_worker):
    gone = [f"{keys.WORKER}a{number}" for number in range(150)]
    redis.sadd(keys.WORKERS, *gone)
    redis.sadd(keys.workers_of("default"), *gone)
    redis.sadd(keys.QUEUES, keys.queue("default"))
    plant_worker("w1")
    pages = [client.get(path).text for path in ("/workers", "/queues/default")]

    assert all('id="worker-w1"' in page for page in pages)
    assert not any("more." in page or 'class="pager"' in page for page in pages)


def test_the_system_shows_redis_and_no_secrets(client):
    text = words(client.get("/system").text)

    for shown in ("Persistence none", "Eviction noeviction", "jiffy:web", "DASHBOARD_USER admin",
                  "DASHBOARD_PASSWORD ***", "API_TOKEN ***", "SECRET_KEY ***"):  # fmt: skip
        assert shown in text


def test_a_setting_may_name_a_file_in_any_encoding(client, environ):
    environ(JOBS_FILES="caf\udce9")

    assert "JOBS_FILES caf?" in words(client.get("/system").text)


def test_the_system_shows_where_memory_goes_and_when_it_is_full(client, plant, redis):
    for number in range(50):
        plant(f"job{number}", status="finished", meta=json.dumps("x" * 2000), result="y" * 500)
    now_s = redis.time()[0]
    for slot, (ago_s, used) in enumerate([(86400, 10 << 20), (43200, 11 << 20), (0, 12 << 20)]):
        redis.hset(keys.history("memory"), slot, json.dumps([now_s - ago_s, used]))
    odd = {"a": "[-1e999, 1]", "b": "[1e999, 1]", "c": f"[{now_s}, 1{'0' * 30}]"}
    redis.hset(keys.history("memory"), mapping=odd)
    text = words(client.get("/system").text)
    use = use_of(redis, read.census(redis))

    assert "Forecast it grows by 2 MB a day" in text
    assert re.search(r"results of jobs \d\d\d kB jobs \d\d\d kB", text)
    assert re.search(r"history \d+ B", text)
    assert use.forecast(12 << 20, 18 << 20) == "full in about 3 days at the rate of the last 1d"
    assert use.forecast(12 << 20, 0) == "it grows by 2 MB a day"
    assert use._replace(past=use.past[-1:]).forecast(1, 2) == ""


def test_where_memory_goes_is_said_of_the_queues_that_there_are_now(client, plant, monkeypatch):
    monkeypatch.setattr(system, "_MEMORY_S", 0)
    assert "queues and registries" not in client.get("/system").text
    plant("first", status="queued")

    wait_until(lambda: "queues and registries" in client.get("/system").text)


def test_what_redis_does_not_permit_is_shown_as_that(client, redis, environ, redis_address):
    from jiffy import redis_io
    from tests.web.conftest import PASSWORD

    rules = ["~*", "&*", "+@all", "-info", "-client", "-slowlog", "-config", "-memory", "-dbsize"]
    redis.execute_command("ACL", "SETUSER", "hosted", "on", ">secret", *rules)
    try:
        environ(
            REDIS_URL=f"unix://hosted:secret@{redis_address.removeprefix('unix://')}",
            DASHBOARD_PASSWORD=PASSWORD,
        )
        redis_io.shared.cache_clear()
        text = words(client.get("/system").text)
    finally:
        redis.execute_command("ACL", "DELUSER", "hosted")

    for command in ("INFO", "SLOWLOG GET", "CLIENT LIST"):
        assert f"Redis does not permit {command} to this user" in text
    assert "Redis does not permit MEMORY USAGE" in text


@pytest.mark.parametrize(
    ("memory", "found"),
    [
        (Memory(used=90, most=100, policy="noeviction", is_kept=True), ["memory"]),
        (Memory(used=10, most=100, policy="allkeys-lru", is_kept=True), ["evicts"]),
        (Memory(used=10, policy="allkeys-lru", is_kept=False), ["forgetful"]),
        (Memory(used=10, most=100, policy="noeviction", is_kept=None), []),
    ],
)
def test_a_redis_that_may_lose_data_has_a_banner(redis, memory, found):
    seen = replace(read.census(redis), memory=memory)

    assert [banner.name for banner in banners(seen)] == found


def test_several_releases_have_a_banner(redis, plant_worker):
    for number, release in enumerate(["a" * 40, "b" * 40, "b" * 40]):
        plant_worker(f"w{number}", **{"jiffy:release": release})
    seen = replace(read.census(redis), memory=Memory())
    [banner] = banners(seen)

    assert banner.text == "Workers run 2 releases: 1 on aaaaaaaaaaaa, 2 on bbbbbbbbbbbb."


@pytest.mark.parametrize("span", ["1h", "24h", "7d", "90d"])
def test_the_overview_shows_what_became_of_attempts_and_of_which_functions(client, redis, span):
    key = keys.history(f"now:{redis.time()[0] // 60}")
    redis.hincrby(key, "done 3 12 jobs.shop.charge\ndefault", 120)
    redis.hincrby(key, "failed 3 12 jobs.shop.refund\ndefault", 7)
    redis.hincrby(key, "ran_ms - - jobs.shop.charge\ndefault", 60_000)
    redis.zadd(keys.history("releases"), {"4f2a" * 10: redis.time()[0] - 60})
    html = client.get(f"/?span={span}").text
    text = words(html.replace("<wbr>", ""))

    assert re.search(r"release 4f2a4f2a4f2a 1m(\d+s)? ago", text)
    assert html.count('<line class="deploy"') == 2
    assert "120 done, 7 failed" in text
    assert re.search("jobs.shop.charge 120 [0-9.]+ ms 1m", text)
    assert "jobs.shop.refund 7 7 100%" in text
    assert "7 failed, waited" in text


def test_the_overview_without_a_history_says_who_keeps_it(client):
    text = words(client.get("/").text)

    assert "No attempt ended in this time." in text
    assert client.get("/?span=1y").status_code == 404


def test_where_every_worker_of_a_queue_is_busy_pages_say_so(client, plant, plant_worker, app):
    plant("one", status="queued")
    plant_worker("w1", state="busy")
    plant_worker("w2")
    pages = ("/", "/queues", "/queues/default")
    some = [client.get(path).text for path in pages]
    plant_worker("w2", state="busy")
    app.extensions["jiffy.census"].forget()

    assert not any("workers are busy<" in text for text in some)
    assert all("all 2 workers are busy<" in client.get(path).text for path in pages)
