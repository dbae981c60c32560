"""Pauses: workers start no job of a paused queue or function, and lose none."""

import json
import re
from datetime import timedelta

import pytest
from click.testing import CliRunner
from rq import RateLimit
from rq.job import Job
from rq.serializers import JSONSerializer

import jiffy
from jiffy import actions, cli, clock, keys
from jiffy.control import pauses
from jiffy.errors import InvalidValue
from tests.jobs import worker as worker_jobs
from tests.support.worker_support import (
    child,
    claim,
    due,
    enqueue,
    finish,
    ids_of,
    queued,
    said,
    status,
)

TELL_ID = "tests.jobs.worker.tell_id"
NOTHING = "tests.jobs.worker.nothing"


def put(count, func=worker_jobs.tell_id, **options):
    """Enqueue as our producers do; `enqueue` does it as RQ's, which hide a job's function."""
    for number in range(count):
        jiffy.enqueue.options(job_id=f"ours-{number}", **options)(func)


def end_pause(redis, field):
    """As if its time had passed."""
    stored = json.loads(redis.hget(keys.PAUSED, field))
    redis.hset(keys.PAUSED, field, json.dumps(stored | {"until": 1.0}))


def parked(redis, path=TELL_ID):
    return [raw.decode() for raw in redis.zrange(keys.parked(path), 0, -1)]


def test_a_job_of_a_paused_function_whose_name_is_no_text_is_parked(redis):
    put(2)
    pause = json.dumps({"who": "ann", "why": "odd", "since": 1, "until": None})
    redis.hset(keys.PAUSED, b"func:odd.\xff", pause)
    redis.hset(keys.job("ours-0"), "data", '["odd.\\udcff", null, [], {}]')
    child(redis).work()

    assert status(redis, "ours-1") == "finished"
    assert redis.zrange(keys.parked("").encode() + b"odd.\xff", 0, -1) == [b"ours-0"]


def test_a_paused_queue_is_skipped_and_the_others_go_on(redis):
    enqueue(redis, 2)
    enqueue(redis, 2, queue="low")
    jiffy.pause(queue="default", why="the disk is full")

    assert ids_of(claim(redis, queues=["default", "low"])) == ["low-0", "low-1"]
    assert queued(redis) == ["default-0", "default-1"]
    assert jiffy.resume(queue="default")
    assert redis.llen(keys.wake("default")) == 1  # a sleeper looks at once
    assert ids_of(claim(redis)) == ["default-0", "default-1"]


@pytest.mark.parametrize("producer", [put, lambda n: enqueue(jiffy.connection.shared(), n)])
def test_jobs_of_a_paused_function_wait_unstarted_and_come_back_in_front_in_order(redis, producer):
    func = TELL_ID if producer is put else NOTHING
    producer(3)
    jiffy.pause(function=func, why="a bug")
    child(redis, queues=("default",)).work()
    waiting = parked(redis, func)
    jiffy.enqueue.options(job_id="later")(worker_jobs.fail)

    assert (len(waiting), said(redis)) == (3, [])
    assert {status(redis, job_id) for job_id in waiting} == {"queued"}
    assert redis.zcard(keys.REGISTRIES["started"] + "default") == 0
    assert redis.hget(keys.worker("worker-1"), "successful_job_count") is None
    assert pauses.read_pauses(redis)[0].parked == 3
    assert jiffy.resume(function=func)
    assert queued(redis) == [*waiting, "later"]
    assert not redis.hexists(keys.job(waiting[0]), keys.PARKED_FIELD)


def test_another_function_of_the_same_batch_runs(redis):
    put(2)
    enqueue(redis, 1, worker_jobs.tell_id, queue="default")
    jiffy.enqueue.options(job_id="other")(worker_jobs.nothing)
    jiffy.pause(function=worker_jobs.tell_id, why="a bug")
    child(redis).work()

    assert status(redis, "other") == "finished"
    assert parked(redis) == ["ours-0", "ours-1", "default-0"]


@pytest.mark.parametrize(
    ("field", "until"), [("queue:default", timedelta(hours=2)), (f"func:{TELL_ID}", "2h")]
)
def test_a_pause_ends_by_itself(redis, field, until):
    put(1)
    kind = "queue" if field.startswith("queue") else "function"
    jiffy.pause(**{kind: field.partition(":")[2]}, why="a while", until=until)
    assert claim(redis) == []
    end_pause(redis, field)
    due(redis)

    assert not redis.exists(keys.PAUSED)
    assert ids_of(claim(redis)) == ["ours-0"]


def test_a_thousand_come_back_a_call_and_none_is_doubled(redis):
    enqueue(redis, 1)
    pipe = redis.pipeline()
    for number in range(2500):
        pipe.hset(
            keys.job(f"p-{number:04}"),
            mapping={"status": "queued", "origin": "default", keys.PARKED_FIELD: TELL_ID},
        )
        pipe.zadd(keys.parked(TELL_ID), {f"p-{number:04}": number})
    pipe.sadd(keys.parked("").rstrip(":"), TELL_ID)
    pipe.execute()

    assert [due(redis)[0] for _ in range(4)] == [1000, 1000, 500, 0]
    assert queued(redis) == [f"p-{number:04}" for number in range(2500)] + ["default-0"]


@pytest.mark.parametrize("what", ["is lost", "holds something else"])
def test_parked_jobs_come_back_though_the_set_of_their_functions(redis, what):
    put(1)
    jiffy.pause(function=TELL_ID, why="a bug")
    claim(redis)
    names = keys.parked("").rstrip(":")
    redis.delete(names)
    if what == "holds something else":
        redis.set(names, "odd")
    due(redis)
    jiffy.resume(function=TELL_ID)

    assert ids_of(claim(redis)) == ["ours-0"]


def test_a_parked_job_can_be_canceled_deleted_and_expires(redis):
    put(2)
    jiffy.enqueue.options(job_id="late", expires="1h")(worker_jobs.tell_id)
    jiffy.pause(function=TELL_ID, why="a bug")
    claim(redis)
    actions.cancel("ours-0")
    Job.fetch("ours-1", redis, JSONSerializer).delete()
    redis.zadd(keys.EXPIRING, {"late": 1})
    due(redis)
    jiffy.resume(function=TELL_ID)

    assert (status(redis, "ours-0"), status(redis, "late")) == ("canceled", "canceled")
    assert (queued(redis), redis.exists(keys.parked(TELL_ID))) == ([], 0)


def test_a_parked_job_that_waits_for_a_slot_afterwards_expires_when_it_would_have(redis):
    put(1, rate_limit=RateLimit("stripe", 1), expires="1h")
    jiffy.pause(function=TELL_ID, why="a bug")
    claim(redis)
    redis.zadd(keys.EXPIRING, {"ours-0": 9e9})
    jiffy.resume(function=TELL_ID)

    assert (queued(redis), redis.zscore(keys.EXPIRING, "ours-0")) == (["ours-0"], 9e9)


@pytest.mark.parametrize("ends", ["canceled", "expires"])
def test_a_parked_job_that_expired_and_is_tried_again_can_be_canceled_and_expires(redis, ends):
    jiffy.enqueue.options(job_id="late", expires="1h")(worker_jobs.tell_id)
    jiffy.pause(function=TELL_ID, why="a bug")
    claim(redis)
    redis.zadd(keys.EXPIRING, {"late": 1})
    due(redis)
    jiffy.resume(function=TELL_ID)
    actions.retry("late")
    if ends == "canceled":
        actions.cancel("late")
    else:
        redis.zadd(keys.EXPIRING, {"late": 1})
        due(redis)

    assert (status(redis, "late"), queued(redis)) == ("canceled", [])


def test_a_parked_job_leaves_its_slot_of_a_rate_limit_to_others(redis):
    limit = RateLimit("stripe", 1)
    put(1, rate_limit=limit)
    jiffy.enqueue.options(job_id="other", rate_limit=limit)(worker_jobs.nothing)
    jiffy.pause(function=TELL_ID, why="a bug")
    [other] = claim(redis)

    assert other.job_id == "other"
    jiffy.resume(function=TELL_ID)
    assert status(redis, "ours-0") == "rate_limited"
    finish(redis, other)
    assert queued(redis) == ["ours-0"]


def test_one_that_was_resumed_meanwhile_is_not_parked(redis):
    enqueue(redis, 1)
    jiffy.pause(function=NOTHING, why="a bug")
    [claimed] = claim(redis)
    jiffy.resume(function=NOTHING)
    finish(redis, claimed, "parked")

    assert (queued(redis), parked(redis, NOTHING)) == (["default-0"], [])


def test_a_pause_that_would_take_each_claim_long_to_read_is_dropped(redis):
    put(1)
    pause = {"who": "x" * 10**6, "why": "a bug", "since": 1, "until": None}
    redis.hset(keys.PAUSED, "func:odd", json.dumps(pause))

    assert ids_of(claim(redis)) == ["ours-0"]
    assert not redis.exists(keys.PAUSED)


@pytest.mark.parametrize("given", [{"queue": ""}, {"queue": "low", "why": ""}])
def test_an_invalid_pause_is_refused(redis, given):
    with pytest.raises(InvalidValue):
        jiffy.pause(**{"why": "a reason", **given})
    assert not redis.exists(keys.PAUSED)


def test_a_claim_pays_nothing_where_nothing_is_paused(redis):
    claim(redis)  # scripts are loaded
    redis.config_resetstat()
    claim(redis)
    stats = redis.info("commandstats")

    assert "cmdstat_hrandfield" in stats  # what the worker holds
    assert stats["cmdstat_hrandfield"]["calls"] == 1
    assert stats["cmdstat_exists"]["calls"] <= 3


def typed(*words):
    """What `jiffy` and these words print."""
    return CliRunner().invoke(cli.command, words, catch_exceptions=False).output


def test_a_pause_is_made_shown_and_ended_in_a_shell(redis):
    put(1)
    words = ["function", TELL_ID]

    assert typed("pause", *words, "--why", "a bug", "--who", "ann") == f"{TELL_ID} is paused.\n"
    assert claim(redis) == []
    shown = typed("paused")
    assert re.fullmatch(rf"function {TELL_ID} \(waiting: 1\): by ann \S+ m?s ago: a bug\n", shown)
    assert typed("resume", *words) == f"{TELL_ID} is resumed.\n"
    assert typed("resume", *words) == f"{TELL_ID} was not paused.\n"
    assert queued(redis) == ["ours-0"]
    assert typed("paused") == "Nothing is paused.\n"


@pytest.mark.parametrize("skew", [timedelta(minutes=-15), timedelta(minutes=15)])
def test_a_pause_lasts_so_long_whatever_time_it_is_where_it_is_made(redis, monkeypatch, skew):
    there = clock.now()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(clock, "now", lambda: there + skew)
        jiffy.pause(queue="low", why="a deploy", until="10m")
        [one] = pauses.read_pauses(redis)

    assert (one.until - one.since).total_seconds() == 600
    assert abs((one.since - clock.now()).total_seconds()) < 60
