"""Acting on many jobs: a job of the engine's own does it, without a browser, and after a crash."""

import io
import os
import re
import signal
from datetime import timedelta

import pytest
from redis.exceptions import ResponseError
from rq.utils import now, utcformat

from jiffy import clock, keys, redis_io, tracebacks
from jiffy.cli import INTERRUPTED_EXIT_CODE, load, run
from jiffy.control import bulk, pauses, read, search
from jiffy.errors import NotAllowed
from jiffy.producer.enqueue import enqueue
from tests.support.newcomer import CHECKOUT, wait_until
from tests.support.worker_processes import Dyno
from tests.web.conftest import logged_in, post

FAILED, WIP = (keys.REGISTRIES[state] + "default" for state in ("failed", "started"))
ERROR = f'Traceback …\n  File "{CHECKOUT}/tests/jobs/worker.py", line 4, in charge\nLookupError: no'
GROUP = tracebacks.Group.of(ERROR).key
RETRY = {"q": f"state:failed group:{GROUP}", "action": "retry"}


@pytest.fixture
def cards(plant, environ):
    """So many failed jobs of one group: `cards(3000)`; the first failed first."""

    environ(JOBS_MODULES="tests.jobs.worker")

    def fail(count):
        for number in range(count):
            call = ["tests.jobs.worker.charge", None, [number], {}]
            plant(f"card{number}", status="failed", call=call, error=ERROR)

    return fail


@pytest.fixture
def dyno(redis, tmp_path):
    """Start a real worker; it is gone after the test."""
    started = []

    def start():
        started.append(Dyno(tmp_path, ["-n", "2"], {}))
        wait_until(lambda: bulk.queue_of_workers(redis))
        return started[0]

    yield start
    for one in started:
        one.end()


def test_many_are_left_to_a_job_which_counts_and_reports(client, cards, redis, work, monkeypatch):
    monkeypatch.setattr(bulk, "FEW", 20)
    cards(130)
    listening(redis)
    asked = client.get("/jobs/all", query_string=RETRY).text
    answer = post(client, "/jobs/all", **RETRY)
    post(client, "/jobs/card7/retry")  # it changes its state before the job begins
    redis.hset(keys.job("card8"), "origin", "")  # and this one does not allow it
    job_id = answer.location.rpartition("/")[2]
    queued = read.job(redis, job_id)
    work()
    done = read.job(redis, job_id)

    assert "Retry 130 jobs?" in asked
    assert "A job on queue default counts them exactly" in asked
    assert (answer.status_code, queued.description) == (
        303, f"Retry all jobs that match state:failed group:{GROUP}"
    )  # fmt: skip
    assert (done.result["total"], done.result["done"], done.result["others"]) == (129, 128, 1)
    assert done.result["summary"].startswith("Retried 128 jobs. 1 left as they are: Job 'card8'")
    assert redis.zrange(FAILED, 0, -1) == [b"card8"]


def test_so_long_ago_counts_from_the_click(client, cards, plant, redis, work, monkeypatch):
    cards(0)
    listening(redis)
    called = clock.now()
    for job_id, minutes in (("old", 130), ("young", 110)):
        ended = utcformat(called - timedelta(minutes=minutes))
        call = ["tests.jobs.worker.charge", None, [1], {}]
        plant(job_id, status="failed", call=call, error=ERROR, enqueued_at=ended, ended_at=ended)
    asked = {"q": "state:failed before:2h", "action": "retry", "rate": "1000"}
    answer = post(client, "/jobs/all", **asked)
    monkeypatch.setattr(clock, "now", lambda: called + timedelta(minutes=20))
    work()

    assert answer.status_code == 303
    assert redis.zrange(FAILED, 0, -1) == [b"young"]


def test_what_someone_retries_amid_a_deletion_of_all_failed_jobs_is_not_deleted(
    client, cards, redis
):
    cards(130)
    tally = bulk.Tally()
    steps = bulk.steps(redis, "delete", search.parse("state:failed"), now(), None, tally)
    next(steps)
    post(client, "/jobs/card129/retry")
    list(steps)

    assert redis.lrange(keys.queue("default"), 0, -1) == [b"card129"]
    assert read.job(redis, "card129").state == "queued"
    assert tally.words("delete") == (
        "Deleted 129 jobs. 1 left as they are: They have changed meanwhile."
    )


def test_to_delete_what_failed_no_queue_is_looked_through(client, cards, redis):
    """With a million jobs on it, that would take Redis 35 ms for each."""
    cards(2)
    redis.config_resetstat()
    post(client, "/jobs/all", **RETRY | {"action": "delete"})

    assert not redis.exists(FAILED)
    assert "cmdstat_lrem" not in redis.info("commandstats")


def test_what_someone_cancels_amid_a_retry_of_all_canceled_jobs_stays_canceled(
    client, plant, redis
):
    old = utcformat(now() - timedelta(hours=1))
    for number in range(130):
        plant(f"old{number}", status="canceled", enqueued_at=old, created_at=old)
    plant("mine", status="queued", enqueued_at=old, created_at=old)
    outcome = bulk.Tally()
    steps = bulk.steps(redis, "retry", search.parse("state:canceled"), now(), None, outcome)
    next(steps)
    post(client, "/jobs/mine/cancel")
    list(steps)

    assert read.job(redis, "mine").state == "canceled"
    assert (outcome.done, outcome.others) == (130, 1)


@pytest.mark.parametrize("few", [500, 1])
def test_no_more_jobs_are_acted_on_than_the_form_showed(
    client, cards, plant, redis, work, monkeypatch, few
):
    monkeypatch.setattr(bulk, "FEW", few)
    cards(3)
    listening(redis)
    form = client.get("/jobs/all", query_string=RETRY).text
    [asked] = re.findall('name="asked" value="([^"]+)"', form)
    plant("later", call=["tests.jobs.worker.charge", None, [1], {}], status="failed", error=ERROR)
    post(client, "/jobs/all", **RETRY, asked=asked)
    work()

    assert "Retry 3 jobs?" in form
    assert redis.zrange(FAILED, 0, -1) == [b"later"]


def test_a_retry_that_fell_due_while_the_form_asked_stays(client, plant, redis):
    plant("shown", status="queued")
    begun = utcformat(now() - timedelta(hours=1))
    plant("later", status="scheduled", enqueued_at=begun, started_at=begun, ended_at=begun)
    [asked] = re.findall('name="asked" value="([^"]+)"', client.get("/queues/default").text)
    redis.zadd(keys.jobs_in("scheduled", "default"), {"later": 1})
    redis_io.run_script(redis, "due", [keys.queue("default")], [1, 180])
    post(client, "/queues/default/empty", typed="default", asked=asked)

    assert redis.lrange(keys.queue("default"), 0, -1) == [b"later"]


def test_a_queue_whose_name_begins_with_a_blank_is_emptied(client, plant, redis):
    plant("waits", status="queued", origin=" low")
    post(client, "/queues/%20low/empty", typed="low ")

    assert not redis.exists(keys.job("waits"))


def test_a_form_that_is_days_old_acts_on_nothing(client, cards, redis):
    cards(1)
    for asked in (f"{clock.now() - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}", "0001-01-01T00:00:00Z"):
        answer = post(client, "/jobs/all", **RETRY, asked=asked)

        assert (answer.status_code, redis.zcard(FAILED)) == (409, 1)


@pytest.mark.parametrize("asked", ["", "x", "2026-01-01", "9999-12-31T23:59:59Z"])
def test_a_form_that_names_an_odd_time_is_no_error(client, cards, asked):
    cards(1)
    sent = RETRY | {"q": "state:failed before:2h", "asked": asked}

    assert post(client, "/jobs/all", **sent).status_code == 303


def test_a_selected_job_to_which_something_has_happened_is_left_alone(client, cards, redis):
    cards(4)
    ids = [f"card{number}" for number in range(4)]
    shown = shown_by(client.get("/jobs?far=1").text)
    post(client, "/jobs/card0/retry")
    post(client, "/jobs/card1/retry")
    post(client, "/jobs/card1/cancel")
    post(client, "/jobs/act", action="retry", id=ids[1:3], seen=shown)
    form = post(client, "/jobs/act", action="delete", id=[ids[0], ids[3]], seen=shown).text
    post(client, "/jobs/act", action="delete", id=ids, seen=shown_by(form), sure="yes")

    assert "Delete 2 jobs?" in form
    assert [shown_by(form)[0].partition(" ")[2], len(shown_by(form))] == [ids[0], 2]
    assert [redis.hget(keys.job(one), "status") for one in ids] == [
        b"queued", b"canceled", b"queued", None
    ]  # fmt: skip


def test_a_button_of_a_page_that_is_out_of_date_does_nothing(client, cards, redis):
    cards(1)
    shown = shown_by(client.get("/jobs/card0").text)
    post(client, "/jobs/card0/retry")
    post(client, "/jobs/card0/cancel")
    post(client, "/jobs/card0/retry", seen=shown[0])
    said = client.get("/jobs/card0").text
    post(client, "/jobs/card0/retry", seen=shown_by(said)[0])

    assert "card0 has changed since it was shown." in said
    assert redis.hget(keys.job("card0"), "status") == b"queued"


def shown_by(page):
    """How each job of a page, or form, is said to have been."""
    return re.findall('name="seen" value="([^"]+)"', page)


def test_a_filter_that_a_worker_does_not_understand_is_not_widened(client, cards, redis, work):
    cards(2)
    listening(redis)
    of_another_release = search.parse("statee:none fn:charge")
    job = bulk.start(redis, "delete", of_another_release, "ann", None, now())
    work()

    assert {*redis.zrange(FAILED, 0, -1)} == {b"card0", b"card1", job.id.encode()}


def test_retrying_all_does_not_go_on_with_a_deletion_that_was_stopped(
    client, cards, plant, redis, work
):
    cards(3)
    listening(redis)
    plant("kept", call=["tests.jobs.worker.charge", None, [1], {}])
    stopped = bulk.start(redis, "delete", search.parse("id:kept"), "ann", None, now()).id
    redis.lrem(keys.queue("default"), 1, stopped)
    redis.hset(keys.job(stopped), "status", "stopped")
    redis.zadd(FAILED, {stopped: 9e9})
    for rate in ("", "1000"):
        post(client, "/jobs/all", action="retry", q="state:failed", rate=rate)
    post(client, "/rq/requeue/default")
    work()
    left = redis.zrange(FAILED, 0, -1)
    post(client, f"/jobs/{stopped}/retry")
    work()

    assert left == [stopped.encode()]
    assert not redis.exists(keys.job("kept"))


def test_without_workers_the_remedy_is_shown_and_a_few_are_done_at_a_time(
    client, cards, redis, monkeypatch
):
    monkeypatch.setattr(bulk, "FEW", 20)
    cards(50)
    asked = client.get("/jobs/all", query_string=RETRY).text
    answer = post(client, "/jobs/all", **RETRY)
    again = client.get(answer.location).text
    at_a_rate = post(client, "/jobs/all", **RETRY, rate="5")

    assert "No worker of Jiffy is running" in asked
    assert "<code>python -m jiffy worker</code>" in asked
    assert "Retry the next 20" in asked
    assert "Retried 20 jobs." in again
    assert "Retry 30 jobs?" in again
    assert (at_a_rate.status_code, redis.zcard(FAILED)) == (409, 30)


@pytest.mark.parametrize(
    ("action", "said"),
    [("retry", "2 jobs. 1 left as they are: WRONGTYPE"), ("delete", "Deleted 3 jobs.")],
)
def test_a_job_whose_lists_are_something_else_stops_no_other(client, cards, redis, action, said):
    cards(3)
    # A name like the word for a Redis that is away.
    redis.hset(keys.job("card1"), "origin", "LOADING")
    for key in (keys.queue("LOADING"), keys.jobs_in("failed", "LOADING")):
        redis.set(key, "neither a list nor a sorted set")
    page = client.get(post(client, "/jobs/all", **RETRY | {"action": action}).location).text

    assert said in page
    assert redis.zrange(FAILED, 0, -1) == [b"card1"]


def test_a_job_whose_group_is_gone_is_deleted_like_the_others(cards, redis):
    cards(3)
    redis.hset(keys.job("card1"), "group_id", "gone")
    tally = bulk.Tally()
    bulk.each("delete", dict.fromkeys(["card0", "card1", "card2"], ""), tally)

    assert tally == bulk.Tally(done=3)
    assert redis.zcard(FAILED) == 0


def test_where_redis_is_full_no_job_is_passed_over(cards, redis):
    cards(2)
    tally = bulk.Tally()
    redis.config_set("maxmemory", 1)
    try:
        # Redis 6.2 has another type of error for a script.
        with pytest.raises(ResponseError, match="maxmemory"):
            bulk.each("retry", {"card0": "", "card1": ""}, tally)
    finally:
        redis.config_set("maxmemory", 0)

    assert tally == bulk.Tally()


@pytest.mark.parametrize("rate", ["fast", "0", "-1", "nan", "9999"])
def test_an_invalid_rate_is_refused(client, cards, redis, rate):
    cards(1)
    listening(redis)

    assert post(client, "/jobs/all", **RETRY, rate=rate).status_code == 422
    assert redis.zcard(FAILED) == 1


def test_the_job_goes_to_no_paused_queue(redis):
    listening(redis, queues="default,low")
    pauses.pause(queue="low", why="the disk is full")

    assert bulk.queue_of_workers(redis) == "default"


def test_nothing_else_enqueues_it(api):
    sent = {"function": "jiffy.control.bulk.act", "args": ["delete", "", "me", "2030-01-01"]}

    assert api("POST", "/api/jobs", json=sent).status_code == 422
    with pytest.raises(NotAllowed):
        enqueue.by_path("jiffy.control.bulk.act", "delete", "", "me", "2030-01-01T00:00:00")


def test_over_http_a_job_does_it_and_groups_are_listed(api, cards, redis, work):
    cards(30)
    refused = api("POST", "/api/bulk", json={"action": "retry", "filter": RETRY["q"]})
    listening(redis)
    listed = api("GET", "/api/failures").json
    odd = api("POST", "/api/bulk", json={"action": "retry", "filter": "state:lost"})
    sent = {"action": "retry", "filter": RETRY["q"], "rate": 500}
    accepted = api("POST", "/api/bulk", json=sent)
    work()
    job = api("GET", accepted.location).json

    assert (refused.status_code, "python -m jiffy worker" in refused.json["detail"]) == (409, True)
    assert (listed["looked_at"], [one["key"] for one in listed["groups"]]) == (30, [GROUP])
    assert (odd.status_code, accepted.status_code, job["result"]["done"]) == (422, 202, 30)


def test_in_a_shell_it_is_done_at_once_and_asks_first(cards, redis, capsys, monkeypatch):
    cards(250)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    declined = run(load("bulk"), ["retry", RETRY["q"]])
    asked, left = capsys.readouterr().err, redis.zcard(FAILED)
    done = run(load("bulk"), ["retry", RETRY["q"], "--yes"])

    assert (declined, left) == (INTERRUPTED_EXIT_CODE, 250)
    assert "Retry 250 jobs?" in asked
    assert (done, capsys.readouterr().out) == (0, "Retried 250 jobs.\n")
    assert redis.llen(keys.queue("default")) == 250
    assert run(load("bulk"), ["retry", RETRY["q"]]) == 0  # and asks nothing
    assert capsys.readouterr().out == "No jobs match.\n"
    wrong = ["retry", "state:lost"], ["delete", "queue:*", "--rate", "5"], ["stop", "queue:*"]
    for words in wrong:
        with pytest.raises(SystemExit):
            run(load("bulk"), words)


def test_a_blank_filter_is_refused_and_that_of_any_queue_means_every_job(
    api, plant, redis, command_line
):
    states = "queued", "scheduled", "deferred", "failed", "stopped", "canceled", "finished"
    for number, state in enumerate(states):
        plant(state, status=state, origin=f"queue{number}")
    redis.zadd(keys.REGISTRIES["failed"] + "queue4", {"stopped": 9e9})
    plant("parked", status="queued", **{keys.PARKED_FIELD: "jobs.numbers.add"})
    redis.delete(keys.queue("default"))
    redis.zadd(keys.parked("jobs.numbers.add"), {"parked": 5})
    redis.sadd(f"{keys.OWN}parked", "jobs.numbers.add")
    typed = [command_line("bulk", "delete", blank, "--yes") for blank in ("", " \n")]
    listening(redis)
    sent = api("POST", "/api/bulk", json={"action": "delete", "filter": ""})
    left = redis.keys(keys.job("*"))
    code, done, _ = command_line("bulk", "delete", "queue:*", "--yes")

    must = "it must be a filter; 'queue:*' means every job."
    assert [(one[0], one[2]) for one in typed] == [
        (2, f"MATCHING is '{blank}'; {must}\n") for blank in ("", r" \n")
    ]
    assert (sent.status_code, sent.json["detail"]) == (422, f"filter is ''; {must}")
    assert (len(left), code, done) == (8, 0, "Deleted 8 jobs.\n")
    assert not redis.keys(keys.job("*"))


@pytest.mark.parametrize("skew_s", [-60, 60])
def test_it_does_not_matter_what_time_it_is_for_the_web_process(
    client, cards, plant, redis, monkeypatch, skew_s
):
    cards(2)
    there = clock.now()
    monkeypatch.setattr(clock, "now", lambda: there + timedelta(seconds=skew_s))
    form = client.get("/jobs/all", query_string=RETRY).text
    [asked] = re.findall('name="asked" value="([^"]+)"', form)
    plant("later", status="failed", error=ERROR)
    post(client, "/jobs/all", **RETRY, asked=asked)
    left = redis.zrange(FAILED, 0, -1)
    run(load("bulk"), ["delete", "state:failed before:30s", "--yes"])

    assert left == redis.zrange(FAILED, 0, -1) == [b"later"]


@pytest.mark.parametrize("skew_s", [-150, 150])
def test_nor_for_what_someone_has_canceled_since(client, plant, redis, monkeypatch, skew_s):
    there = clock.now() + timedelta(seconds=skew_s)
    monkeypatch.setattr(clock, "now", lambda: there)
    monkeypatch.setattr(clock, "wall", there.timestamp)
    plant("mine", status="queued")
    form = client.get("/jobs/all?q=queue:default&action=retry").text
    [asked] = re.findall('name="asked" value="([^"]+)"', form)
    post(client, "/jobs/mine/cancel")
    post(client, "/jobs/all", q="queue:default", action="retry", asked=asked)

    assert read.job(redis, "mine").state == "canceled"


def test_what_comes_while_a_shell_asks_is_left_alone(cards, redis, plant, monkeypatch):
    cards(2)

    class Person:
        def readline(self, *_):
            plant("later", status="failed", error="boom")
            return "y\n"

    monkeypatch.setattr("sys.stdin", Person())
    assert run(load("bulk"), ["delete", "state:failed"]) == 0
    assert redis.zrange(FAILED, 0, -1) == [b"later"]


@pytest.mark.slow
def test_a_crash_goes_on_where_it_was_and_a_stop_leaves_the_rest(client, cards, redis, dyno):
    cards(900)
    worker = dyno()
    answer = post(client, "/jobs/all", **RETRY, rate="150")
    job_id = answer.location.rpartition("/")[2]
    wait_until(lambda: redis.zcard(FAILED) <= 600)
    for child in worker.children():
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: redis.zcard(FAILED) <= 300)
    post(client, f"/jobs/{job_id}/stop")
    wait_until(lambda: read.job(redis, job_id).state == "stopped")
    come_to = read.job(redis, job_id).meta["bulk"]
    left = redis.zcard(FAILED) - 1  # it has failed, too
    post(client, f"/jobs/{job_id}/retry")
    wait_until(lambda: read.job(redis, job_id).state == "finished")

    assert left > 0
    assert 900 - left - 200 <= come_to["done"] <= 900 - left
    assert redis.zcard(FAILED) == 0


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("has_scripts", [True, False])
def test_in_a_browser_one_of_3000_is_retried_then_the_rest_at_a_rate(
    chromium, live, client, cards, redis, dyno, has_scripts
):
    cards(3000)
    redis.sadd("test:broken", *range(1000, 1200))
    dyno()
    with logged_in(chromium, live, client, has_scripts) as page:
        page.goto("/failures")
        page.click(f"#group-{GROUP} button:has-text('Retry one')")
        until_shown(page, "#trial .state.finished")
        page.click("#trial a:has-text('Retry the other')")
        page.fill("input[name=rate]", "300")
        page.click("text=Retry them")
        until_shown(page, ".standing .state.finished")
        first = page.inner_text("main")
        wait_until(lambda: not redis.llen(keys.queue("default")) + redis.zcard(WIP))
        left = redis.zcard(FAILED)
        redis.delete("test:broken")
        page.goto(f"/failures/{GROUP}")
        page.click("text=Retry all…")
        page.click("text=Retry them")
        until_shown(page, ".standing .state.finished")
        second = page.inner_text("main")

    assert re.search(r"Stopped because \d+ failed again; [\d,]+ are left", first)
    assert left > 2000
    assert f"Retried {left:,} jobs." in second
    assert redis.zcard(FAILED) == 0


def until_shown(page, selector):
    """Wait for it; without scripts, as a person does, by loading the page again."""

    def is_there():
        if not page.is_visible(selector):
            page.reload()
        return page.is_visible(selector)

    wait_until(is_there)


def listening(redis, queues="default"):
    """A worker of ours that is alive."""
    redis.zadd(keys.LEASES, {"w1": redis.time()[0] + 60})
    redis.hset(keys.worker("w1"), "queues", queues)
