"""rq-dashboard inside: it works, and its holes are closed."""

import json
import re

import pytest
from redis.connection import AbstractConnection

from jiffy import every, keys
from jiffy.producer.enqueue import enqueue
from jobs import numbers
from tests.web.conftest import OWN, post

VIEWS = ["/rq/", "/rq/0/view/jobs", "/rq/0/view/workers",
         "/rq/0/view/jobs/default/queued/8/asc/1"]  # fmt: skip


@pytest.mark.parametrize("path", [*VIEWS, "/rq/0/view/job/x"])
def test_its_templates_escape_strings(client, plant, path):
    plant("x")
    answer = client.get(path)
    text = answer.text

    assert answer.status_code == 200
    assert "<%=" not in text
    assert ".text(d." not in text


def test_its_scripts_escape_the_name_of_a_queue(client):
    text = client.get("/rq/0/view/jobs/'-alert(1)-'/queued/8/asc/1").text

    assert "'-alert(1)-'" not in text


def test_its_own_scripts_run_by_a_nonce_that_changes(client):
    first, second = client.get("/rq/"), client.get("/rq/")
    nonce = first.headers["Content-Security-Policy"].partition("'nonce-")[2].partition("'")[0]

    assert f'<script nonce="{nonce}">' in first.text
    assert nonce not in second.text
    assert (
        "'unsafe-inline'" not in first.headers["Content-Security-Policy"].partition("style-src")[0]
    )


def test_the_url_of_redis_is_not_shown(client, environ):
    environ(REDIS_URL="redis://user:secret@127.0.0.1:6379/0", DASHBOARD_PASSWORD="x")

    assert "secret" not in client.get("/rq/").text


def test_a_get_requeues_nothing(client, plant, redis):
    plant("bad", status="failed")
    answer = client.get("/rq/requeue/default")

    assert answer.status_code == 405
    assert redis.zcard(keys.REGISTRIES["failed"] + "default") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/rq/requeue/default",
        "/rq/job/bad/requeue",
        "/rq/job/bad/delete",
        "/rq/queue/default/failed/empty",
    ],
)
def test_nothing_changes_without_a_token_nor_from_another_site(client, plant, redis, path):
    plant("bad", status="failed")

    assert client.post(path, headers=OWN).status_code == 403
    assert post(client, path, headers={"Origin": "https://evil.example"}).status_code == 403
    assert redis.zcard(keys.REGISTRIES["failed"] + "default") == 1


def test_its_own_scripts_get_the_token(client, plant, redis):
    plant("bad", status="failed")
    [token] = re.findall('CSRF = "(.*)";', client.get("/rq/").text)
    answer = client.post("/rq/job/bad/requeue", headers=OWN | {"X-CSRFToken": token})

    assert answer.json == {"status": "OK"}
    assert redis.llen(keys.queue("default")) == 1


def test_a_requeued_job_runs(client, plant, work, redis):
    plant("bad", status="failed", call=["jobs.numbers.add", None, [1, 2], {}])
    post(client, "/rq/requeue/default")
    work()

    assert redis.hget(keys.job("bad"), "status") == b"finished"


@pytest.mark.parametrize("registry", ["queued", *keys.REGISTRIES])
def test_a_page_has_as_many_jobs_as_requested(client, plant, registry):
    for number in range(20):
        plant(f"job{number:02}", status=registry)
    pages = [
        [
            job["id"]
            for job in client.get(f"/rq/0/data/jobs/default/{registry}/8/{order}/{page}.json").json[
                "jobs"
            ]
        ]
        for order, page in (("asc", 1), ("asc", 3), ("asc", 9), ("dsc", 1), ("dsc", 3), ("dsc", 9))
    ]
    every = [f"job{number:02}" for number in range(20)]

    assert pages == [every[:8], every[16:], [], every[:11:-1], every[3::-1], []]


@pytest.mark.parametrize(
    "path",
    [
        "/rq/0/data/jobs/default/queued/8/asc/abc.json",
        "/rq/0/data/jobs/default/queued/abc/asc/1.json",
        "/rq/0/data/jobs/default/queued/0/asc/1.json",
        "/rq/0/data/jobs/default/queued/8/asc/0.json",
        "/rq/0/data/jobs/default/queued/100000/asc/1.json",
        "/rq/0/data/jobs/default/queued/8/asc/-1.json",
        "/rq/0/data/jobs/default/lost/8/asc/1.json",
        "/rq/0/view/jobs/default/queued/0/asc/1",
        "/rq/0/view/job/nope",
        "/rq/0/data/job/nope.json",
        "/rq/0/view/job/a b",
        "/rq/1/",
        "/rq/7/data/queues.json",
    ],
)
def test_what_is_not_there_is_404_in_words(client, path):
    answer = client.get(path)

    assert answer.status_code == 404
    assert "Traceback" not in answer.text


def test_a_job_that_cannot_be_requeued_is_refused(client, plant, redis):
    plant("done")
    plant("corrupt", status="failed")
    redis.hset(keys.job("corrupt"), "retry_intervals", "{")

    assert post(client, "/rq/job/nope/requeue").status_code == 404
    assert post(client, "/rq/job/done/requeue").status_code == 409
    assert post(client, "/rq/job/corrupt/requeue").status_code == 200
    assert redis.hget(keys.job("corrupt"), "retry_intervals") == b"{"


def test_a_job_with_a_dependency_is_shown(client, redis):
    from jiffy.producer.enqueue import Queue

    first = enqueue(numbers.add, 1, 2)
    queue = Queue(connection=redis)
    second = queue.enqueue("jobs.numbers.add", 3, 4, depends_on=first)

    assert client.get(f"/rq/0/data/job/{second.id}.json").json["depends_on"] == [first.id]


def test_of_very_many_dependencies_the_first_are_shown(client, plant):
    plant("first")
    plant("last", dependency_ids=json.dumps(["first", *map(str, range(50_000))]))
    shown = client.get("/rq/0/data/job/last.json").json

    assert len(shown["depends_on"]) == 100
    assert shown["depends_on_status"][:2] == ["active", "expired"]


def test_a_worker_whose_job_was_deleted_is_shown_as_idle(client, plant_worker):
    plant_worker("w1", state="busy", runs="deleted")

    assert client.get("/rq/0/data/workers.json").json["workers"][0]["current_job"] == "idle"


@pytest.mark.parametrize("registry", ["queued", *keys.REGISTRIES])
def test_an_entry_of_the_schedule_is_never_deleted_as_a_job(client, declare, redis, registry):
    """Not even if it stands in a list that is emptied; jobs in there are deleted, those that are
    gone or corrupt do no harm."""
    declare(every("10m", numbers.add, args=[2, 3], name="sum"))
    lists = {keys.queue("default"), *(prefix + "default" for prefix in keys.REGISTRIES.values())}
    for name in ("entry-sum", "gone", "job", "b\xff", "bad"):
        for key in lists:
            is_queue = key == keys.queue("default")
            redis.rpush(key, name) if is_queue else redis.zadd(key, {name: 5})
    redis.hset(keys.job("job"), mapping={"status": registry, "origin": "default", "data": b"x"})
    redis.hset(keys.job("bad"), mapping={"status": b"\xff", "origin": b"\xff"})
    before = redis.hgetall(keys.job("entry-sum"))
    answers = [
        post(client, "/rq/job/entry-sum/delete"),
        post(client, "/rq/job/entry-sum/requeue"),
        post(client, f"/rq/queue/default/{registry}/empty"),
        post(client, "/rq/requeue/default"),
        post(client, "/rq/queue/default/compact"),
    ]

    assert [answer.status_code for answer in answers] == [409, 409, 200, 200, 200]
    assert redis.hgetall(keys.job("entry-sum")) == before
    assert redis.zscore(keys.ENTRIES, "entry-sum")
    assert redis.exists(keys.job("job")) == (registry == "started")  # it runs


def test_a_job_that_was_retried_since_the_list_was_read_is_not_deleted_with_it(
    client, plant, redis
):
    for job_id in ("retried", "failed"):
        plant(job_id, status="failed", error="boom")
    redis.hset(keys.job("retried"), "status", "queued")
    redis.rpush(keys.queue("default"), "retried")
    post(client, "/rq/queue/default/failed/empty")

    assert (redis.exists(keys.job("retried")), redis.exists(keys.job("failed"))) == (1, 0)


@pytest.mark.browser
@pytest.mark.parametrize("has_changed", [False, True])
@pytest.mark.parametrize("page", ["jobs/default/failed/8/asc/1", "job/bad"])
@pytest.mark.parametrize("action", ["delete", "requeue"])
def test_a_button_leaves_a_job_alone_that_has_changed_since_it_was_shown(
    browser, plant, redis, page, action, has_changed
):
    plant("bad", status="failed", error="boom")
    shown = []  # once: it does not refresh

    def once(route):
        route.abort() if shown else route.continue_()
        shown.append(route)

    browser.route("**/rq/0/data/job*/**", once)
    browser.goto(f"/rq/0/view/{page}")
    browser.get_by_text("boom").first.wait_for()
    if has_changed:
        redis.hset(keys.job("bad"), "started_at", "2026-11-30T12:00:00.000000Z")
    with browser.expect_response(f"**/rq/job/bad/{action}") as answer:
        browser.click(f"[data-role={action}-job-btn], #{action}-job-btn")
        if action == "delete":
            browser.click("#confirmation-modal-yes")

    assert answer.value.status == (409 if has_changed else 200)
    assert bool(redis.zcard(keys.REGISTRIES["failed"] + "default")) == has_changed


@pytest.mark.parametrize("path", ["compact", "queued/empty"])
def test_what_is_gone_is_taken_off_a_queue_in_a_few_round_trips(client, redis, monkeypatch, path):
    sent, send = [], AbstractConnection.send_packed_command
    redis.rpush(keys.queue("default"), *(f"gone{number}" for number in range(2000)))

    def counted(connection, command, *args, **options):
        sent.append(command)
        return send(connection, command, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    answer = post(client, f"/rq/queue/default/{path}")

    assert answer.json == {"status": "OK", "count": 2000}
    assert redis.llen(keys.queue("default")) == 0
    assert len(sent) < 200


def test_a_queue_that_is_not_there_is_compacted(client):
    assert post(client, "/rq/queue/none/compact").json == {"status": "OK", "count": 0}


@pytest.mark.parametrize("key", [keys.queue("default"), keys.REGISTRIES["failed"] + "default"])
def test_a_list_of_another_type_is_left_as_it_is(client, redis, key):
    redis.set(key, "a string")
    paths = ["queue/default/queued/empty", "queue/default/failed/empty", "requeue/default"]

    assert [post(client, f"/rq/{path}").status_code for path in paths] == [200] * 3
    assert redis.get(key) == b"a string"
