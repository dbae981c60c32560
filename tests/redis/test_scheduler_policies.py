"""What becomes of ticks that are late, overlap, are paused, skipped or counted; their history."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from redis.exceptions import ResponseError
from rq.registry import CanceledJobRegistry

from jiffy import clock, connection, entries, keys
from jiffy.producer.enqueue import Job
from jiffy.scheduler import at, cron, every
from jiffy.scheduler.schedule import Scheduler
from jobs import numbers
from tests.support.newcomer import PATIENCE_S
from tests.support.weekly import slot, weekly
from tests.support.worker_support import claim, finish

ENTRY = "entry-jobs-numbers-add"
NAME = "jobs.numbers.add"


@pytest.fixture
def tick(scheduler, redis):
    """Let the entry's next slots come, one after the other: `tick()`; returns what became of them.

    Each is a slot of the grid, taken ahead of its time, so nothing here depends on the clock.
    """

    def run(count=1):
        done = []
        for _ in range(count):
            done += scheduler.enqueue_due(scheduler.look(ENTRY))
        return done

    return run


def add(**changes):
    return weekly(numbers.add, **{"args": [2, 3]} | changes)


def ended_long_ago(redis, weeks=6):
    """As if no scheduler had run for so long."""
    redis.zadd(keys.ENTRIES, {ENTRY: slot(weeks)})


def queued(redis):
    return [job_id.decode() for job_id in redis.lrange(keys.queue("default"), 0, -1)]


def outcomes(redis):
    return [one.outcome for one in entries.history(redis, NAME)]


def start(redis, job_id):
    """As if a worker ran this job."""
    redis.lrem(keys.queue("default"), 0, job_id)
    redis.hset(keys.job(job_id), mapping={"status": "started", "worker_name": "somebody"})


# Missed


def test_what_was_missed_is_one_job_and_every_slot_of_it_is_told(scheduler, declare, redis):
    declare(add())
    ended_long_ago(redis)
    [made] = scheduler.enqueue_jobs()

    assert queued(redis) == [made.job_id]
    assert outcomes(redis) == ["open"] + ["missed"] * 6
    assert {one.reason for one in entries.history(redis, NAME)[1:]} == {"no scheduler ran"}


def test_who_alerts_is_told_once_how_many_ticks_were_missed(scheduler, declare, redis):
    declare(add())
    ended_long_ago(redis)
    done = scheduler.enqueue_due(scheduler.look())

    assert [(one.outcome, one.slots) for one in done] == [("missed", 6), ("enqueued", 1)]


def test_each_missed_slot_is_a_job_of_its_own_if_asked(scheduler, declare, redis):
    declare(add(missed="all", overlap="allow"))
    ended_long_ago(redis)

    assert len(scheduler.enqueue_jobs()) == 7
    assert len(set(queued(redis))) == 7


def test_an_entry_of_one_time_that_came_while_no_scheduler_ran_is_enqueued_late(
    scheduler, declare, redis
):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    declare(at(moment, numbers.add, args=[2, 3]), now=moment - timedelta(hours=1))
    scheduler.enqueue_jobs()

    assert queued(redis) == ["jobs-numbers-add-20260101T000000Z"]


# Done


def test_an_entry_of_one_time_stays_done_at_the_next_deploys(scheduler, declare, redis):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    line = at(moment, numbers.add, args=[2, 3])
    declare(line, now=moment - timedelta(hours=1))
    scheduler.enqueue_jobs()

    assert declare(line)["same"] == 1
    assert declare(line, now=moment - timedelta(hours=1))["same"] == 1
    assert scheduler.enqueue_jobs() == []
    assert [state.is_done for state in entries.read(redis)] == [True]


def test_an_entry_that_is_declared_after_its_time_is_not_run_but_told_of(
    scheduler, declare, redis, caplog
):
    line = at(datetime(2026, 1, 1, tzinfo=UTC), numbers.add, args=[2, 3])

    assert declare(line)["over"] == 1
    assert declare(line)["same"] == 1
    assert scheduler.enqueue_jobs() == []
    assert [one.reason for one in entries.history(redis, NAME)] == [
        "it was declared after its time"
    ]
    assert [line.split()[0] for line in caplog.messages] == ["entry.over"]


def test_an_entry_of_one_time_that_is_given_another_runs_again(scheduler, declare, redis):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for day in (0, 1):
        then = moment + timedelta(days=day)
        declare(at(then, numbers.add, args=[2, 3]), now=then - timedelta(hours=1))
        scheduler.enqueue_jobs()

    assert len(queued(redis)) == 2


def test_so_many_ticks_are_made_and_no_more_also_across_deploys(declare, tick, redis):
    line = add(repeat=3, overlap="allow")
    declare(line)
    tick(2)
    declare(line)
    tick(2)

    assert declare(line)["same"] == 1
    assert tick() == []
    assert len(queued(redis)) == 3


def test_ticks_that_come_all_at_once_are_no_more_than_were_asked_for(scheduler, declare, redis):
    declare(add(repeat=3, missed="all", overlap="allow"))
    ended_long_ago(redis)

    assert len(scheduler.enqueue_jobs()) == 3
    assert redis.zcard(keys.ENTRIES) == 0


def test_other_times_count_anew_and_what_is_run_by_hand_does_not_count(declare, tick, redis):
    declare(add(repeat=2, overlap="allow"))
    tick()
    entries.run_now(redis, NAME, "ada")
    declare(cron("0 6 * * *", numbers.add, args=[2, 3], repeat=2))
    entries.run_now(redis, NAME, "ada")

    assert [one.outcome for one in tick(3)] == ["enqueued", "enqueued"]


def test_ticks_from_before_somebody_asked_for_so_many_are_not_counted(declare, tick, redis):
    declare(add(overlap="allow"))
    tick(4)
    declare(add(overlap="allow", repeat=2))
    tick(3)
    assert len(queued(redis)) == 6
    declare(add(overlap="allow"))
    declare(add(overlap="allow", repeat=1))

    assert [state.is_done for state in entries.read(redis)] == [False]


def test_an_entry_that_was_done_comes_back_with_other_times_and_runs(declare, tick, redis):
    declare(add(repeat=1))
    tick()
    declare()
    declare(cron("0 6 * * *", numbers.add, args=[2, 3], repeat=1))

    assert [state.is_done for state in entries.read(redis)] == [False]
    assert [one.outcome for one in tick()] == ["enqueued"]


def test_an_entry_that_is_to_repeat_less_often_than_it_did_is_done_at_once(declare, tick, redis):
    declare(add(repeat=3, overlap="allow"))
    tick(2)
    declare(add(repeat=2, overlap="allow"))

    assert redis.zcard(keys.ENTRIES) == 0
    assert outcomes(redis) == ["open"] * 2


def test_times_that_are_only_spelled_in_another_way_leave_a_done_entry_done(declare, tick, redis):
    def spelled(weekdays):
        return cron(f"0 6 * * {weekdays}", numbers.add, args=[2, 3], repeat=1)

    declare(spelled("mon-sun"))
    tick()

    assert declare(spelled("1-7"))["changed"] == 1
    assert redis.zcard(keys.ENTRIES) == 0


def test_an_entry_that_may_repeat_more_often_goes_on_where_it_was(declare, tick, redis):
    declare(add(repeat=2, overlap="allow"))
    tick(3)
    declare(add(repeat=3, overlap="allow"))
    tick(3)

    assert len(queued(redis)) == 3


def test_a_window_that_is_over_stays_over(scheduler, declare, redis):
    end = datetime(2026, 1, 1, tzinfo=UTC)
    line = every("10m", numbers.add, args=[2, 3], end=end)
    declare(line, now=end - timedelta(minutes=15))
    for _ in range(3):
        scheduler.enqueue_jobs()

    assert declare(line)["same"] == 1
    assert redis.zcard(keys.ENTRIES) == 0
    assert queued(redis) == ["jobs-numbers-add-20260101T000000Z"]


# Overlap


@pytest.mark.parametrize(
    ("line", "made"), [(add, 1), (lambda: cron("0 6 * * *", numbers.add, args=[2, 3]), 3)]
)
def test_an_interval_does_not_pile_up_by_default_and_times_of_the_day_all_come(
    line, made, declare, tick, redis
):
    declare(line())
    tick(3)

    assert len(queued(redis)) == made


@pytest.mark.parametrize("is_running", [False, True])
def test_a_tick_is_skipped_while_the_last_one_waits_or_runs_and_it_is_told_why(
    is_running, declare, tick, redis
):
    declare(add())
    [first] = tick()
    if is_running:
        start(redis, first.job_id)
    [second] = tick()

    stamp = first.job_id.rpartition("-")[2]
    assert second.outcome == "skipped"
    assert second.reason == f"tick {stamp} is still {'running' if is_running else 'queued'}"
    assert entries.history(redis, NAME)[0].reason == second.reason


def test_a_tick_comes_again_once_the_last_one_is_over(declare, tick, work):
    declare(add())
    tick()
    work()

    assert [one.outcome for one in tick()] == ["enqueued"]


def test_one_tick_may_wait_behind_the_one_that_runs(declare, tick, redis):
    declare(add(overlap="queue one"))
    [first] = tick()
    start(redis, first.job_id)
    second, third = tick(2)

    assert (second.outcome, queued(redis)) == ("enqueued", [])
    assert Job.fetch(second.job_id, redis).get_status() == "deferred"
    assert third.reason == f"tick {second.job_id.rpartition('-')[2]} is still waiting"


def test_a_tick_that_only_waits_in_its_queue_is_waited_behind_by_none(declare, tick, redis):
    declare(add(overlap="queue one"))

    assert [one.outcome for one in tick(2)] == ["enqueued", "skipped"]
    assert len(queued(redis)) == 1


@pytest.mark.parametrize("what", ["finished", "failed"])
def test_the_tick_that_waits_is_enqueued_in_the_step_that_ends_the_other(
    what, declare, tick, redis
):
    declare(add(overlap="queue one"))
    tick()
    [first] = claim(redis)
    [second] = tick()
    finish(redis, first, what)

    assert queued(redis) == [second.job_id]
    assert Job.fetch(second.job_id, redis).get_status() == "queued"


def test_where_the_tick_that_waits_is_canceled_the_next_waits_in_its_place(declare, tick, redis):
    declare(add(overlap="queue one"))
    [first] = tick()
    start(redis, first.job_id)
    [second] = tick()
    Job.fetch(second.job_id, redis).cancel()
    [third] = tick()

    assert Job.fetch(third.job_id, redis).get_status() == "deferred"
    assert redis.zrange(keys.pending(third.job_id), 0, -1) == [first.job_id.encode()]


def test_what_is_run_by_hand_hides_no_tick_that_still_runs(declare, tick, redis):
    declare(add())
    [first] = tick()
    start(redis, first.job_id)
    by_hand = entries.run_now(redis, NAME, "ada")
    redis.hset(keys.job(by_hand), "status", "finished")

    assert [one.outcome for one in tick()] == ["skipped"]


def test_a_tick_that_waits_is_replaced_by_the_next(declare, tick, redis):
    declare(add(overlap="replace"))
    first, second = tick(2)
    replaced = Job.fetch(first.job_id, redis)

    assert queued(redis) == [second.job_id]
    assert replaced.get_status() == "canceled"
    assert first.job_id in CanceledJobRegistry("default", redis).get_job_ids()
    assert redis.hget(replaced.key, keys.REASON_FIELD) == b"the next tick replaced it"
    follow(redis)
    told = entries.history(redis, NAME)[1]
    assert (told.outcome, told.reason) == ("canceled", "the next tick replaced it")


def test_a_tick_that_runs_is_told_to_stop_by_the_next(declare, tick, redis):
    declare(add(overlap="replace"))
    [first] = tick()
    start(redis, first.job_id)
    with redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(f"{keys.RQ}pubsub:somebody")
        heard.get_message(timeout=None)
        [second] = tick()
        command = json.loads(heard.get_message(timeout=None)["data"])

    assert command == {"command": "stop-job", "job_id": first.job_id}
    assert second.outcome == "enqueued"


# Paused and skipped


def test_a_paused_entry_makes_no_jobs_and_its_history_says_who_paused_it_and_why(
    declare, tick, redis
):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="the importer is broken")
    [one] = tick()

    assert one.reason == "paused by ada: the importer is broken"
    assert queued(redis) == []


@pytest.mark.parametrize("missed", ["once", "skip"])
def test_what_a_paused_entry_did_not_make_while_no_scheduler_ran_is_not_missed(
    scheduler, declare, redis, missed
):
    declare(add(missed=missed))
    entries.pause(redis, NAME, who="ada", why="holidays | \N{BEACH WITH UMBRELLA}")
    ended_long_ago(redis)
    done = scheduler.enqueue_due(scheduler.look())

    assert {one.outcome for one in done} == {"skipped"}
    assert outcomes(redis) == ["skipped"] * 7
    told = {one.reason for one in entries.history(redis, NAME)}
    assert told == {"paused by ada: holidays | \N{BEACH WITH UMBRELLA}"}
    assert redis.hgetall(keys.TICK_COUNTS) == {b"skipped": b"7"}


def test_a_reason_in_another_encoding_pauses_an_entry_and_breaks_nothing(declare, tick, redis):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="caf\udce9 closed")

    assert [one.reason for one in tick()] == ["paused by ada: caf? closed"]


def test_a_pause_lasts_through_deploys_and_until_somebody_ends_it(declare, tick, redis):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="holidays")
    declare(cron("0 6 * * *", numbers.add, args=[2, 3]))
    assert [one.outcome for one in tick()] == ["skipped"]

    assert entries.resume(redis, NAME) is True
    assert entries.resume(redis, NAME) is False
    assert [one.outcome for one in tick()] == ["enqueued"]


def test_a_pause_with_an_end_passes_by_itself(declare, tick, redis):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="x", until=datetime(2100, 1, 1, tzinfo=UTC))
    assert [one.outcome for one in tick()] == ["skipped"]
    raw = json.loads(redis.hget(keys.entry_state(ENTRY), "paused"))
    redis.hset(keys.entry_state(ENTRY), "paused", json.dumps(raw | {"until": 1.5}))

    assert entries.read(redis)[0].paused is None
    assert [one.outcome for one in tick()] == ["enqueued"]
    assert not redis.hexists(keys.entry_state(ENTRY), "paused")


def test_so_many_next_ticks_are_skipped_and_then_it_goes_on(declare, tick, redis):
    declare(add())
    entries.skip_next(redis, NAME, 2)

    assert [one.outcome for one in tick(3)] == ["skipped", "skipped", "enqueued"]
    assert entries.read(redis)[0].skip == 0


# History


def test_the_history_tells_how_a_job_ended_and_how_long_it_took(declare, tick, work, redis):
    declare(add())
    [made] = tick()
    assert entries.history(redis, NAME)[0].outcome == "open"
    work()
    [ended] = follow(redis)
    [told] = entries.history(redis, NAME)

    assert told == ended.tick
    assert (ended.name, told.outcome, told.job_id) == (NAME, "finished", made.job_id)
    assert 0 <= told.duration_s < 5
    assert redis.zcard(keys.OPEN_TICKS) == 0


def follow(redis, scheduler=None):
    """Look after all open ticks at once, whenever they would be looked after."""
    for member in redis.zrange(keys.OPEN_TICKS, 0, -1):
        redis.zadd(keys.OPEN_TICKS, {member: 1})
    one = scheduler or Scheduler(connection=redis)
    return one.follow_up(one.look())


def test_jobs_are_looked_after_once_a_second_at_most(
    declare, tick, scheduler, work, redis, monkeypatch
):
    declare(add())
    tick()
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    assert follow(redis, scheduler) == []
    work()

    assert follow(redis, scheduler) == []
    monkeypatch.setattr(clock, "monotonic", lambda: 1001.0)
    assert len(follow(redis, scheduler)) == 1


def test_where_more_are_over_than_one_look_takes_the_next_look_need_not_wait(
    declare, scheduler, redis
):
    declare(add())
    lines = {f"{ENTRY} gone-{n} t|{n}|0|||": 1 for n in range(501)}
    redis.zadd(keys.OPEN_TICKS, lines)

    assert len(scheduler.follow_up(scheduler.look())) == 500
    assert scheduler.is_behind
    assert len(scheduler.follow_up(scheduler.look())) == 1
    assert not scheduler.is_behind


def test_a_job_that_is_not_over_is_looked_at_again_later(declare, tick, redis):
    declare(add())
    tick()

    assert follow(redis) == []
    [(_, again)] = redis.zrange(keys.OPEN_TICKS, 0, -1, withscores=True)
    assert again > redis.time()[0]
    assert entries.history(redis, NAME)[0].outcome == "open"


@pytest.mark.parametrize(("status", "told"), [("canceled", "ValueError: 5"), ("finished", "")])
def test_why_a_tick_was_tried_again_is_told_only_if_nothing_came_of_it(
    declare, tick, redis, status, told
):
    declare(add())
    [made] = tick()
    reason = {"status": status, keys.REASON_FIELD: "Traceback:\n  in add\nValueError: 5"}
    redis.hset(keys.job(made.job_id), mapping=reason)
    [ended] = follow(redis)

    assert (ended.tick.outcome, ended.tick.reason) == (status, told)


def test_a_reason_is_kept_short(declare, tick, redis):
    declare(add())
    [made] = tick()
    reason = {"status": "canceled", keys.REASON_FIELD: "x" + "é" * 1000}
    redis.hset(keys.job(made.job_id), mapping=reason)
    [ended] = follow(redis)

    assert ended.tick.reason.startswith("x" + "é" * 70)
    assert redis.memory_usage(keys.ticks(ENTRY)) < 500


@pytest.mark.parametrize("line", [add(), add(result_ttl=0), add(ttl="3s", failure_ttl=0)])
def test_of_a_job_that_is_gone_the_history_does_not_claim_to_know_how_it_went(
    line, declare, tick, redis
):
    declare(line)
    [made] = tick()
    redis.delete(keys.job(made.job_id))
    follow(redis)

    assert [(one.outcome, one.duration_s) for one in entries.history(redis, NAME)] == [
        ("gone", None)
    ]


def test_the_history_has_the_last_thousand_ticks(declare, tick, redis):
    declare(cron("* * * * *", numbers.add, args=[2, 3]))
    redis.rpush(keys.ticks(ENTRY), *["t|1|0|finished|1|"] * 1000)
    tick()

    assert redis.llen(keys.ticks(ENTRY)) == 1000
    assert entries.history(redis, NAME)[0].outcome == "open"


def test_other_times_leave_an_entry_its_history(declare, tick, redis):
    declare(add())
    tick()
    declare(cron("0 6 * * *", numbers.add, args=[2, 3]))

    assert len(entries.history(redis, NAME)) == 1


def test_an_entry_that_leaves_the_table_and_comes_back_has_its_state_and_its_history(
    declare, tick, redis
):
    declare(add())
    entries.pause(redis, NAME, who="ada", why="x")
    tick()
    declare()
    assert 0 < redis.ttl(keys.ticks(ENTRY)) <= 30 * 86400
    declare(add())

    assert entries.read(redis)[0].paused.who == "ada"
    assert len(entries.history(redis, NAME)) == 1
    assert redis.ttl(keys.ticks(ENTRY)) == redis.ttl(keys.entry_state(ENTRY)) == -1


@pytest.mark.parametrize("key", [keys.ticks(ENTRY), keys.entry_state(ENTRY)])
def test_a_tick_whose_history_or_state_is_nonsense_is_not_enqueued_twice(
    key, declare, scheduler, redis
):
    declare(add(overlap="allow"))
    ended_long_ago(redis, 0)
    redis.set(key, "text")
    for _ in range(2):
        assert Scheduler(connection=redis).enqueue_jobs() == []
    redis.delete(key)
    [made] = scheduler.enqueue_jobs()

    assert queued(redis) == [made.job_id]
    assert outcomes(redis) == ["open"]


@pytest.mark.parametrize("key", [keys.TICK_COUNTS, keys.OPEN_TICKS, keys.wake("default")])
def test_a_key_that_others_made_nonsense_costs_no_tick(key, declare, tick, redis):
    declare(add(overlap="allow"))
    redis.set(key, "text")

    assert [one.outcome for one in (*tick(), *tick())] == ["enqueued", "enqueued"]


# Many at once


def test_fifty_schedulers_at_once_make_each_tick_once(declare, redis):
    declare(*(add(name=f"sum-{n}", missed="all", overlap="allow") for n in range(10)))
    redis.zadd(keys.ENTRIES, {f"entry-sum-{n}": slot(10) for n in range(10)})
    together = Barrier(50, timeout=PATIENCE_S)

    def enqueue(_):
        with connection.connect("test") as own:
            one = Scheduler(connection=own)
            together.wait()
            return [tick.job_id for tick in one.enqueue_jobs()]

    with ThreadPoolExecutor(50) as pool:
        enqueued = [job_id for found in pool.map(enqueue, range(50)) for job_id in found]

    assert len(enqueued) == len(set(enqueued)) == 110
    assert sorted(enqueued) == sorted(queued(redis))
    assert all(redis.llen(keys.ticks(f"entry-sum-{n}")) == 11 for n in range(10))


def test_more_entries_than_one_look_tells_of_are_all_enqueued(declare, scheduler, redis):
    declare(*(add(name=f"sum-{n}") for n in range(1001)))
    redis.zadd(keys.ENTRIES, {f"entry-sum-{n}": 1 for n in range(1001)})
    seen = scheduler.look()

    assert seen.next_due <= seen.now
    assert len(scheduler.enqueue_due(seen)) + len(scheduler.enqueue_jobs()) >= 1001
    assert redis.llen(keys.queue("default")) == 1001


def test_a_redis_that_is_full_is_waited_for_and_loses_no_tick(declare, scheduler, redis):
    declare(add())
    scheduler.look()
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(ResponseError, match="OOM"):
            scheduler.enqueue_due(scheduler.look(ENTRY))
    finally:
        redis.config_set("maxmemory", 0)
    [made] = scheduler.enqueue_due(scheduler.look(ENTRY))

    assert queued(redis) == [made.job_id]
    assert outcomes(redis) == ["open"]


def test_a_sleeping_worker_hears_of_a_tick(declare, tick, redis):
    declare(add())
    tick()

    assert redis.llen(keys.wake("default")) == 1


def test_a_change_of_the_schedule_wakes_the_scheduler(declare, scheduler, redis):
    declare(add())
    assert redis.llen(keys.SCHEDULE_WAKE) == 1
    redis.delete(keys.SCHEDULE_WAKE)
    scheduler.enqueue_in(timedelta(hours=1), numbers.add, 2, 3)

    assert redis.llen(keys.SCHEDULE_WAKE) == 1
