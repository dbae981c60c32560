"""What becomes of runs that are late, overlap, are paused, skipped or counted; their history."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from redis.exceptions import ResponseError
from rq.registry import CanceledJobRegistry

from jiffy import at, cron, every, keys, redis_io
from jiffy.control import entries
from jiffy.producer import job
from jiffy.producer.enqueue import Job
from jiffy.scheduler.state import Schedule
from jobs import numbers
from tests.support import schedules
from tests.support.newcomer import PATIENCE_S
from tests.support.weekly import LAST_SLOT, WEEK, add, slot
from tests.support.worker_support import queued

ENTRY = "entry-jobs-numbers-add"
NAME = "jobs.numbers.add"
OVER = datetime(2026, 1, 1, tzinfo=UTC)


def outcomes(redis):
    return [one.outcome for one in entries.history(redis, NAME)]


def start(redis, job_id):
    """As if a worker ran this job."""
    redis.lrem(keys.queue("default"), 0, job_id)
    redis.hset(keys.job(job_id), mapping={"status": "started", "worker_name": "another"})


# Missed


def test_what_was_missed_is_one_job_and_every_slot_of_it_is_recorded(declare, catch_up, redis):
    declare(add())
    missed, made = catch_up(6)

    assert (missed.outcome, missed.slots, made.outcome) == ("missed", 6, "enqueued")
    assert queued(redis) == [made.job_id]
    assert outcomes(redis) == ["open"] + ["missed"] * 6
    assert {one.reason for one in entries.history(redis, NAME)[1:]} == {"no scheduler ran"}


@pytest.mark.parametrize("interval_s", [1, 7])
def test_of_a_long_absence_the_last_hundred_runs_are_recorded_and_where_it_began(
    declare, catch_up, redis, interval_s
):
    declare(every(interval_s, numbers.add, args=[2, 3], start=LAST_SLOT - 60 * WEEK))
    missed, made = catch_up(60)
    recorded = entries.history(redis, NAME, 1000)

    assert (len(recorded), missed.slots) == (102, 101)
    assert recorded[-1].slot == LAST_SLOT - 60 * WEEK
    assert recorded[-1].reason.startswith("no scheduler ran; of those that follow, the last 100 ")
    assert recorded[0].slot - recorded[-2].slot == timedelta(seconds=100 * interval_s)
    assert len({one.slot for one in recorded}) == 102
    assert declare.schedule.next_due == made.slot.timestamp() + interval_s


def test_at_most_a_hundred_missed_runs_are_enqueued_and_these_are_the_last(
    declare, catch_up, redis
):
    declare(add(missed="all", overlap="allow", start=LAST_SLOT - 200 * WEEK))
    made = catch_up(150)

    assert [one.outcome for one in made] == ["missed"] + ["enqueued"] * 100
    assert made[0].slot == LAST_SLOT - 150 * WEEK
    assert made[-1].slot == LAST_SLOT


@pytest.mark.parametrize(("late_s", "outcome"), [(20, "enqueued"), (40, "missed")])
def test_a_run_that_is_hardly_late_is_not_missed(declare, redis, late_s, outcome):
    declare(add(missed="skip"))
    due = datetime.fromtimestamp(declare.schedule.next_due, UTC)
    [one] = declare.schedule.enqueue_due(due + timedelta(seconds=late_s))

    assert one.outcome == outcome


# Done


@pytest.mark.parametrize(
    "line", [at(OVER, numbers.add, args=[2, 3]), every("10m", numbers.add, args=[2, 3], end=OVER)]
)
def test_an_entry_that_is_over_is_enqueued_late_and_stays_done_at_the_next_deploys(
    line, declare, redis
):
    before = OVER - timedelta(minutes=15)
    declare(line, now=before)
    for _ in range(3):
        schedules.enqueue_due(declare.schedule)

    assert queued(redis) == ["jobs-numbers-add-20260101T000000Z"]
    assert declare(line)["same"] == declare(line, now=before)["same"] == 1
    assert schedules.enqueue_due(declare.schedule) == []
    assert [state.is_done for state in entries.read(redis)] == [True]


def test_an_entry_of_one_time_that_is_given_another_runs_again(declare, redis):
    for then in (OVER, OVER + timedelta(days=1)):
        declare(at(then, numbers.add, args=[2, 3]), now=then - timedelta(hours=1))
        schedules.enqueue_due(declare.schedule)

    assert len(queued(redis)) == 2


def test_runs_that_come_all_at_once_are_no_more_than_were_asked_for(declare, catch_up, redis):
    declare(add(repeat=3, missed="all", overlap="allow"))

    assert [one.outcome for one in catch_up(6)] == ["enqueued"] * 3 + ["skipped"] * 4
    assert redis.zcard(keys.ENTRIES) == 0


def test_other_times_count_anew_and_what_is_run_by_hand_does_not_count(declare, run_next, redis):
    declare(add(repeat=2, overlap="allow"))
    run_next()
    entries.run_now(redis, NAME, "ada")
    declare(cron("0 6 * * *", numbers.add, args=[2, 3], repeat=2))
    entries.run_now(redis, NAME, "ada")

    assert [one.outcome for one in run_next(3)] == ["enqueued", "enqueued"]


@pytest.mark.parametrize(
    ("before", "ran", "after", "made"),
    [
        (3, 2, 3, 3),  # the next deploy
        (3, 2, 2, 2),  # less often than it did: it is done at once
        (2, 3, 3, 3),  # more often: it goes on where it was
        (None, 4, 2, 6),  # runs from before it was set are not counted
    ],
)
def test_so_many_runs_are_made_and_no_more_also_across_deploys(
    declare, run_next, redis, before, ran, after, made
):
    declare(add(repeat=before, overlap="allow"))
    *_, last = run_next(ran)
    declare(add(repeat=after, overlap="allow"), now=last.slot)
    run_next(3)

    assert (len(queued(redis)), redis.zcard(keys.ENTRIES)) == (made, 0)
    declare(add(overlap="allow"), now=last.slot)
    declare(add(repeat=1, overlap="allow"), now=last.slot)
    assert [state.is_done for state in entries.read(redis)] == [False]


# Overlap


@pytest.mark.parametrize("is_running", [False, True])
def test_a_run_is_skipped_while_the_last_one_waits_or_runs_and_it_is_reported_why(
    is_running, declare, run_next, redis
):
    declare(add())
    [first] = run_next()
    if is_running:
        start(redis, first.job_id)
    [second] = run_next()

    stamp = first.job_id.rpartition("-")[2]
    assert second.outcome == "skipped"
    assert second.reason == f"run {stamp} is still {'running' if is_running else 'queued'}"
    assert entries.history(redis, NAME)[0].reason == second.reason


def test_where_the_run_that_waits_is_canceled_the_next_waits_in_its_place(declare, run_next, redis):
    declare(add(overlap="queue one"))
    [first] = run_next()
    start(redis, first.job_id)
    [second] = run_next()
    Job.fetch(second.job_id, redis).cancel()
    [third] = run_next()

    assert Job.fetch(third.job_id, redis).get_status() == "deferred"
    assert redis.zrange(keys.pending(third.job_id), 0, -1) == [first.job_id.encode()]


def test_what_is_run_by_hand_hides_no_run_that_still_runs(declare, run_next, redis):
    declare(add())
    [first] = run_next()
    start(redis, first.job_id)
    by_hand = entries.run_now(redis, NAME, "ada")
    redis.hset(keys.job(by_hand), "status", "finished")

    assert [one.outcome for one in run_next()] == ["skipped"]


def test_a_run_that_waits_is_replaced_by_the_next(declare, run_next, redis):
    declare(add(overlap="replace"))
    first, second = run_next(2)
    replaced = Job.fetch(first.job_id, redis)

    assert queued(redis) == [second.job_id]
    assert replaced.get_status() == "canceled"
    assert first.job_id in CanceledJobRegistry("default", redis).get_job_ids()
    assert redis.hget(replaced.key, keys.REASON_FIELD) == b"the next run replaced it"
    follow(redis)
    run = entries.history(redis, NAME)[1]
    assert (run.outcome, run.reason) == ("canceled", "the next run replaced it")


def test_a_run_that_runs_is_reported_to_stop_by_the_next(declare, run_next, redis):
    declare(add(overlap="replace"))
    [first] = run_next()
    start(redis, first.job_id)
    with redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(f"{keys.RQ}pubsub:another")
        heard.get_message(timeout=None)
        [second] = run_next()
        command = json.loads(heard.get_message(timeout=None)["data"])

    assert command == {"command": "stop-job", "job_id": first.job_id}
    assert second.outcome == "enqueued"


@pytest.mark.parametrize("status", ["queued", "scheduled"])
def test_a_run_that_was_replaced_does_not_begin_again(declare, run_next, redis, status):
    declare(add(overlap="replace"))
    [first] = run_next()
    start(redis, first.job_id)
    [second] = run_next()
    # Its worker died, or it failed and is to be tried again.
    redis.hset(keys.job(first.job_id), "status", status)
    if status == "queued":
        redis.lpush(keys.queue("default"), first.job_id)
    else:
        redis.zadd(f"{keys.RQ}scheduled:default", {first.job_id: 0})
    follow(redis)

    assert queued(redis) == [second.job_id]
    assert not redis.exists(f"{keys.RQ}scheduled:default")
    entries.follow_up(redis, datetime(2100, 1, 2, tzinfo=UTC))
    run = entries.history(redis, NAME)[1]
    assert (run.outcome, run.reason) == ("canceled", "the next run replaced it")


def test_a_run_that_was_replaced_and_is_retried_by_hand_begins_again(declare, run_next, redis):
    declare(add(overlap="replace"))
    [first] = run_next()
    start(redis, first.job_id)
    [second] = run_next()
    redis.hset(keys.job(first.job_id), "status", "stopped")
    job.retry(first.job_id)
    follow(redis)

    assert queued(redis) == [second.job_id, first.job_id]


# Paused and skipped


@pytest.mark.parametrize("missed", ["once", "skip"])
def test_what_a_paused_entry_did_not_run_while_no_scheduler_ran_is_not_missed(
    declare, catch_up, redis, missed
):
    declare(add(missed=missed))
    entries.pause(redis, NAME, who="ada", why="holidays | \N{BEACH WITH UMBRELLA}")

    assert {one.outcome for one in catch_up(6)} == {"skipped"}
    assert outcomes(redis) == ["skipped"] * 7
    reasons = {one.reason for one in entries.history(redis, NAME)}
    assert reasons == {"paused by ada: holidays | \N{BEACH WITH UMBRELLA}"}
    assert redis.hgetall(keys.TICK_COUNTS) == {b"skipped": b"7"}


def test_a_reason_in_another_encoding_pauses_an_entry_and_breaks_nothing(declare, run_next, redis):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="caf\udce9 closed")

    assert [one.reason for one in run_next()] == ["paused by ada: caf? closed"]


def test_a_pause_lasts_through_deploys_until_it_is_ended(declare, run_next, redis):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="holidays")
    declare(cron("0 6 * * *", numbers.add, args=[2, 3]))
    assert [one.outcome for one in run_next()] == ["skipped"]

    assert entries.resume(redis, NAME) is True
    assert entries.resume(redis, NAME) is False
    assert [one.outcome for one in run_next()] == ["enqueued"]


def test_a_pause_with_an_end_passes_by_itself(declare, run_next, redis):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="x", until=datetime(2100, 1, 1, tzinfo=UTC))
    assert [one.outcome for one in run_next()] == ["skipped"]
    raw = json.loads(redis.hget(keys.entry_state(ENTRY), "paused"))
    redis.hset(keys.entry_state(ENTRY), "paused", json.dumps(raw | {"until": 1.5}))

    assert entries.read(redis)[0].paused is None
    assert [one.outcome for one in run_next()] == ["enqueued"]
    assert not redis.hexists(keys.entry_state(ENTRY), "paused")


def test_runs_wait_for_a_slot_of_their_rate_limit(declare, run_next, redis):
    declare(add(overlap="allow", rate_limit="stripe:1"))
    made = run_next(2)
    jobs = [redis.hget(keys.job(one.job_id), "status") for one in made]

    assert queued(redis) == [made[0].job_id]
    assert jobs == [b"queued", b"rate_limited"]


# History


def follow(redis):
    """Look after all jobs that have not ended, whenever they would be looked after."""
    return entries.follow_up(redis, datetime(2100, 1, 1, tzinfo=UTC))[0]


def test_the_history_has_the_outcome_of_a_job_and_its_duration(declare, run_next, work, redis):
    declare(add())
    [made] = run_next()
    assert entries.history(redis, NAME)[0].outcome == "open"
    work()
    [(entry_id, ended)] = follow(redis)
    [recorded] = entries.history(redis, NAME)

    assert (entry_id, recorded) == (ENTRY, ended)
    assert (recorded.outcome, recorded.job_id) == ("finished", made.job_id)
    assert 0 <= recorded.duration_s < 60
    assert redis.zcard(keys.OPEN_TICKS) == 0
    assert follow(redis) == []


def test_a_job_that_has_not_ended_is_looked_at_again_later(declare, run_next, redis):
    declare(add())
    run_next()
    now = datetime.now(UTC) + timedelta(seconds=5)

    assert entries.follow_up(redis, now)[0] == []
    [(_, again)] = redis.zrange(keys.OPEN_TICKS, 0, -1, withscores=True)
    assert now.timestamp() < again <= now.timestamp() + 60
    assert entries.history(redis, NAME)[0].outcome == "open"


@pytest.mark.parametrize(
    ("status", "reason"), [("canceled", "ValueError: 5"), ("finished", None), ("gone", None)]
)
def test_why_a_run_was_tried_again_is_recorded_only_if_nothing_came_of_it(
    declare, run_next, redis, status, reason
):
    declare(add())
    [made] = run_next()
    why = {"status": status, keys.REASON_FIELD: "Traceback:\n  in add\nValueError: 5"}
    redis.hset(keys.job(made.job_id), mapping=why)
    if status == "gone":
        redis.delete(keys.job(made.job_id))
    [(_, ended)] = follow(redis)

    assert (ended.outcome, ended.reason, ended.duration_s) == (status, reason, None)
    assert entries.history(redis, NAME) == [ended]


def test_the_history_has_the_last_thousand_runs(declare, run_next, redis):
    declare(add())
    redis.rpush(keys.ticks(ENTRY), *["t|1|0|finished|1|"] * 1000)
    run_next()

    assert redis.llen(keys.ticks(ENTRY)) == 1000
    assert entries.history(redis, NAME)[0].outcome == "open"


def test_an_entry_that_leaves_the_table_and_comes_back_has_its_state_and_its_history(
    declare, run_next, redis
):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="x")
    run_next()
    declare()
    assert 0 < redis.ttl(keys.ticks(ENTRY)) <= 30 * 86400
    declare(add())

    assert entries.read(redis)[0].paused.who == "ada"
    assert len(entries.history(redis, NAME)) == 1
    assert redis.ttl(keys.ticks(ENTRY)) == redis.ttl(keys.entry_state(ENTRY)) == -1


@pytest.mark.parametrize(
    "key",
    [
        keys.ticks(ENTRY), keys.entry_state(ENTRY), keys.TICK_COUNTS, keys.OPEN_TICKS,
        keys.wake("default"), keys.ENTRIES + ":none",
    ],
)  # fmt: skip
def test_a_key_that_others_made_nonsense_costs_no_run_and_doubles_none(
    key, declare, run_next, redis
):
    declare(add(overlap="allow"))
    redis.set(key, "text")
    first, second = run_next(2)

    assert [first.outcome, second.outcome] == ["enqueued", "enqueued"]
    assert queued(redis) == [first.job_id, second.job_id]
    follow(redis)


def test_a_job_under_the_id_of_a_coming_run_is_left_alone_and_the_history_says_so(
    declare, run_next, redis
):
    declare(add(overlap="allow"))
    due = datetime.fromtimestamp(declare.schedule.next_due, UTC)
    job_id = entries.job_id_of(ENTRY, due)
    redis.hset(keys.job(job_id), "status", "finished")
    [one] = run_next()
    [recorded] = entries.history(redis, NAME)

    assert (one.outcome, one.reason) == ("skipped", f"there is a job with its id, {job_id}")
    assert (recorded.outcome, recorded.slot) == ("skipped", due)
    assert recorded.reason == one.reason
    assert queued(redis) == []
    assert [next_one.outcome for next_one in run_next()] == ["enqueued"]


# Many at once


def test_fifty_schedulers_at_once_make_each_run_once(declare, redis):
    line = {"missed": "all", "overlap": "allow"}
    declare(*(add(name=f"sum-{n}", **line) for n in range(10)))
    for n in range(10):
        redis.hset(keys.entry_state(f"entry-sum-{n}"), "slot", int(slot(10)) - 1)
    together = Barrier(50, timeout=PATIENCE_S)

    def enqueue(_):
        with redis_io.connect("test") as own:
            one = Schedule(own, declare.schedule.entries.values(), since=declare.schedule.since)
            one.declare()
            together.wait()
            return [one.job_id for one in schedules.enqueue_due(one) if one.outcome == "enqueued"]

    with ThreadPoolExecutor(50) as pool:
        enqueued = [job_id for found in pool.map(enqueue, range(50)) for job_id in found]

    assert len(enqueued) == len(set(enqueued)) == 110
    assert sorted(enqueued) == sorted(queued(redis))
    assert all(redis.llen(keys.ticks(f"entry-sum-{n}")) == 11 for n in range(10))


def test_more_entries_than_one_step_takes_are_all_enqueued(declare, redis):
    declare(*(add(name=f"sum-{n}") for n in range(1001)))
    due = datetime.fromtimestamp(declare.schedule.next_due, UTC)

    assert len(declare.schedule.enqueue_due(due)) == 1001
    assert redis.llen(keys.queue("default")) == 1001


def test_a_redis_that_is_full_is_waited_for_and_loses_no_run(declare, run_next, redis):
    declare(add())
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ResponseError, match="OOM"):
            run_next()
    finally:
        redis.config_set("maxmemory", 0)
    [made] = run_next()

    assert queued(redis) == [made.job_id]
    assert outcomes(redis) == ["open"]
