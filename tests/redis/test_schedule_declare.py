"""A schedule is put in force: what becomes of runs that are due, and of what Redis has lost."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rq_scheduler

from jiffy import at, cron, every, keys
from jiffy.control import entries
from jiffy.producer.enqueue import Job
from jiffy.scheduler.entry import read
from jiffy.scheduler.loop import Loop
from jiffy.scheduler.state import Schedule, differences
from jobs import numbers
from tests.compat.traces import take
from tests.support import schedules

ENTRY, NAME = "entry-sum", "sum"
MONDAY = datetime(2026, 11, 23, 6, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def daily(expression="0 6 * * *", **changes):
    return cron(expression, numbers.add, args=[2, 3], name=NAME, **changes)


def next_at(redis):
    score = redis.zscore(keys.ENTRIES, ENTRY)
    return score and datetime.fromtimestamp(score, UTC)


def runs(redis):
    return [(one.outcome, one.slot, one.reason) for one in entries.history(redis, NAME)]


@pytest.fixture
def lead(redis):
    """Put a schedule in force and lead: `lead(line, …)`; returns its loop."""

    def begin(*lines, since=None):
        schedule = Schedule(redis, read(lines), since=since)
        schedule.declare()
        return Loop(schedule, redis)

    return begin


def stored(redis):
    return redis.hgetall(keys.job(ENTRY))


# Other times


MISSED = [("missed", MONDAY, "its times were changed before it was enqueued")]


@pytest.mark.parametrize(
    ("times", "now", "then", "missed"),
    [
        ("0 6 * * mon-fri", MONDAY + MINUTE, MONDAY, []),  # which have it, too
        ("0 7 * * *", MONDAY + MINUTE, MONDAY + HOUR, MISSED),
        ("1 6 * * *", MONDAY - MINUTE, MONDAY + MINUTE, []),  # it is not due yet
    ],
)
def test_a_run_that_is_due_and_that_new_times_have_not_is_recorded_as_missed(
    declare, redis, times, now, then, missed
):
    declare(daily(), now=MONDAY - MINUTE)
    declare(daily(times), now=now)

    assert (next_at(redis), runs(redis)) == (then, missed)
    assert redis.hgetall(keys.TICK_COUNTS) == ({b"missed": b"1"} if missed else {})


def test_times_in_another_spelling_are_taken_over_and_leave_the_next_time(declare, redis):
    declare(daily("0 6 * * mon"), now=MONDAY - MINUTE)
    changes = declare(daily("00 06 * * 1"), now=MONDAY + MINUTE)

    assert changes["changed"] == 1
    assert next_at(redis) == MONDAY
    assert "00 06" in entries.read(redis)[0].words


@pytest.mark.parametrize(("before", "after"), [("10m", 0), (0, "10m"), ("10m", "20m")])
def test_another_jitter_leaves_the_slot_and_moves_when_it_is_enqueued(
    before, after, declare, run_next, redis
):
    line = {"name": NAME, "args": [2, 3], "overlap": "allow"}
    declare(every("1h", numbers.add, jitter=before, **line), now=MONDAY - MINUTE)
    declare(every("1h", numbers.add, jitter=after, **line), now=MONDAY - MINUTE)
    [made] = run_next()

    assert made.slot == MONDAY
    assert (next_at(redis) > MONDAY + HOUR) if after else (next_at(redis) == MONDAY + HOUR)


def test_a_run_that_is_made_while_a_deploy_changes_the_times_is_not_made_again(declare, redis):
    declare(daily(), now=MONDAY - MINUTE)
    old = declare.schedule
    [made] = old.enqueue_due(MONDAY)
    declare(daily("0 6,18 * * *"), now=MONDAY + MINUTE)

    assert old.enqueue_due(MONDAY + 24 * HOUR) is None  # another schedule is in force
    assert declare.schedule.enqueue_due(MONDAY + MINUTE) == []
    assert redis.lrange(keys.queue("default"), 0, -1) == [made.job_id.encode()]
    assert next_at(redis) == MONDAY + 12 * HOUR


# What changes


def test_an_entry_removed_from_the_schedule_is_deleted_and_its_jobs_stay(declare, run_next, redis):
    declare(daily(), every("1h", numbers.add, args=[2, 3]))
    made = run_next()

    assert declare(every("1h", numbers.add, args=[2, 3]))["gone"] == 1
    assert redis.zrange(keys.ENTRIES, 0, -1) == [b"entry-jobs-numbers-add"]
    assert not redis.exists(keys.job(ENTRY))
    assert redis.llen(keys.queue("default")) == len(made)


def test_an_entry_is_deleted_though_redis_had_lost_which_there_are(declare, run_next, redis):
    kept, removed = (every("1h", numbers.add, args=[2, 3], name=name) for name in ("kept", "old"))
    declare(kept, removed)
    redis.delete(keys.DECLARED)
    redis.set(keys.DECLARED, "odd")
    run_next()

    assert declare(kept)["gone"] == 1
    assert redis.zrange(keys.ENTRIES, 0, -1) == [b"entry-kept"]


def test_what_would_change_is_shown_and_nothing_is_written(declare, redis):
    declare(daily(), every("1d", numbers.add, args=[1, 1], name="old"), daily_of("gone"))
    before = take(redis)
    changes = differences(
        redis,
        read([
            daily(),
            every("12h", numbers.add, args=[2, 3], name="old", queue="low", jitter="30s"),
            daily_of("new"),
        ]),
    )  # fmt: skip

    assert take(redis) == before
    assert {change.name: change.kind for change in changes} == {
        NAME: "same", "old": "changed", "new": "new", "gone": "gone",
    }  # fmt: skip
    [what] = [{name: pair for name, *pair in change.what} for change in changes if change.what]
    assert what.items() >= {
        "times": ["every 1d", "every 12h"], "origin": ["default", "low"], "jitter_s": [0, 30.0],
        "description": ["jobs.numbers.add(1, 1)", "jobs.numbers.add(2, 3)"],
    }.items()  # fmt: skip


def daily_of(name):
    return cron("0 6 * * *", numbers.add, args=[2, 3], name=name)


def test_stock_tools_see_the_schedule(declare, redis):
    declare(every("7d", numbers.add, args=[2, 3]), cron("0 6 * * mon", numbers.add, args=[2, 3],
            name="weekly"))  # fmt: skip
    stock = rq_scheduler.Scheduler(connection=redis, job_class=Job)

    assert stock.count() == 2
    assert {job.id: job.meta for job in stock.get_jobs()} == {
        "entry-jobs-numbers-add": {"interval": 7 * 86400},
        "entry-weekly": {"cron_string": "0 6 * * mon"},
    }


# Nonsense in Redis


@pytest.mark.parametrize(
    "key",
    [
        keys.job(ENTRY), keys.entry_state(ENTRY), keys.ticks(ENTRY), keys.DECLARED,
        keys.SCHEDULE_WAKE, keys.IN_FORCE,
    ],
)  # fmt: skip
def test_a_key_of_another_type_stops_no_start(key, declare, redis):
    declare(daily(), now=MONDAY - MINUTE)
    for nonsense in ("text", [1]):
        redis.delete(key)
        redis.set(key, nonsense) if nonsense == "text" else redis.lpush(key, *nonsense)
        differences(redis, read([daily()]))
        declare(daily(), now=MONDAY - MINUTE)

        assert next_at(redis) == MONDAY
        assert entries.find(redis, NAME).words.startswith("cron '0 6 * * *'")
        assert redis.smembers(keys.DECLARED) == {ENTRY.encode()}


@pytest.mark.parametrize("text", ["{", "[]", b"\xff", "[" * 5000])
def test_an_entry_that_cannot_be_read_is_shown_as_changed(text, declare, redis):
    declare(daily())
    redis.hset(keys.job(ENTRY), keys.ENTRY_FIELD, text)
    [change] = differences(redis, read([daily()]))

    assert (change.kind, change.what) == (
        "changed",
        [("entry", "cannot be read", "as in SCHEDULE")],
    )
    assert declare(daily())["changed"] == 1
    assert differences(redis, read([daily()]))[0].kind == "same"


@pytest.mark.parametrize("odd", ["soon", "1e999", b"\xff", ""])
def test_an_odd_next_run_of_an_entry_stops_no_start(odd, declare, redis):
    declare(daily(), now=MONDAY - MINUTE)
    redis.hset(keys.entry_state(ENTRY), "next", odd)
    declare(daily("0 7 * * *"), now=MONDAY + MINUTE)

    assert next_at(redis) == MONDAY + HOUR


# What Redis has lost


def test_a_deleted_entry_runs_is_shown_again_and_that_is_logged(declare, run_next, redis, caplog):
    declare(daily())
    redis.delete(keys.job(ENTRY))
    [made] = run_next()

    assert redis.lrange(keys.queue("default"), 0, -1) == [made.job_id.encode()]
    assert stored(redis)[b"description"] == b"jobs.numbers.add(2, 3)"
    assert [line.split()[0] for line in caplog.messages if "restored" in line] == ["entry.restored"]


@pytest.mark.parametrize("lost", ["first entry", "sorted set", "all"])
def test_what_was_deleted_is_written_again_at_the_next_look(lost, lead, redis):
    loop = lead(daily(), every("7d", numbers.add, args=[2, 3]))
    due = redis.zrange(keys.ENTRIES, 0, -1, withscores=True)
    loop.look()
    if lost == "first entry":
        redis.zrem(keys.ENTRIES, due[0][0])
    elif lost == "sorted set":
        redis.delete(keys.ENTRIES)
    else:
        redis.flushall()
    loop.look()

    assert redis.zrange(keys.ENTRIES, 0, -1, withscores=True) == due


def test_a_run_that_came_due_while_redis_was_away_and_lost_all_is_made_up(redis):
    schedule = schedules.declare(redis, daily(), now=MONDAY - MINUTE)
    redis.flushall()
    schedule.declare(MONDAY + MINUTE)
    made = schedule.enqueue_due(MONDAY + MINUTE)

    assert [one.slot for one in made] == [MONDAY]
    assert redis.llen(keys.queue("default")) == 1
    assert next_at(redis) == MONDAY + 24 * HOUR


def test_an_entry_of_one_time_does_not_run_again_when_redis_has_lost_all(redis):
    schedule = schedules.declare(redis, at(MONDAY, numbers.add, args=[2, 3]), now=MONDAY - MINUTE)
    [made] = schedule.enqueue_due(MONDAY)
    redis.flushall()
    schedule.declare(MONDAY + MINUTE)

    assert made.slot == MONDAY
    assert schedule.next_due is None
    assert not redis.exists(keys.queue("default"), keys.ticks(made.entry.id))


def test_a_lost_state_is_taken_up_where_it_was(declare, run_next, redis):
    declare(daily())
    run_next()
    redis.delete(keys.entry_state(ENTRY))
    [made] = run_next()

    assert made.outcome == "enqueued"
    assert len(set(redis.lrange(keys.queue("default"), 0, -1))) == 2


def test_a_redis_that_was_set_back_to_before_a_deploy_gets_its_schedule_again(lead, redis):
    new = lead(daily(), every("1h", numbers.add, args=[2, 3]), since=MONDAY + HOUR)
    lead(daily(), since=MONDAY)

    new.look()

    assert redis.zcard(keys.ENTRIES) == 2
    assert json.loads(redis.get(keys.IN_FORCE))["since"] == (MONDAY + HOUR).timestamp()


def test_of_two_releases_the_older_leaves_the_schedule_to_the_newer(lead, redis, monkeypatch):
    monkeypatch.setattr("jiffy.clock.pause", lambda _: None)
    old = lead(daily("0 6 * * *"), since=MONDAY)
    lead(daily("0 7 * * *"), since=MONDAY + HOUR)
    before = stored(redis)
    old.look()

    assert not redis.exists(keys.LEADER)
    assert stored(redis) == before


@pytest.mark.parametrize("left_s", [0, None, 3600])  # by another program: nothing, or a lead
def test_where_a_release_is_taken_back_the_one_that_still_runs_takes_over(
    lead, redis, monkeypatch, caplog, left_s
):
    now_s = [0.0]
    monkeypatch.setattr("jiffy.clock.pause", lambda _: None)
    monkeypatch.setattr("jiffy.clock.monotonic", lambda: now_s[0])
    old, new = lead(daily(), since=MONDAY), lead(daily("0 7 * * *"), since=MONDAY + HOUR)

    def look(loop, after_s):
        now_s[0] += after_s
        loop.look()
        return next_at(redis).hour

    assert [look(old, 0), look(new, 60), look(old, 0)] == [7, 7, 7]
    redis.delete(keys.LEADER)  # it expires
    if left_s != 0:
        redis.set(keys.LEADER, "of none", ex=left_s)
    assert [look(old, 20), look(old, 20), look(new, 0)] == [7, 6, 7]
    assert look(old, 60) == 7
    assert "scheduler.resumed reason='the newer schedule has had no scheduler for 30 s'" in (
        caplog.messages
    )


def test_what_another_release_did_not_run_is_not_made_up_when_that_is_taken_back(redis):
    old = schedules.declare(redis, daily(), now=MONDAY - MINUTE)
    schedules.declare(redis, now=MONDAY - MINUTE)
    old.forget()
    old.declare(MONDAY + HOUR)

    assert old.enqueue_due(MONDAY + HOUR) == []
    assert next_at(redis) == MONDAY + 24 * HOUR


def test_an_entry_of_one_time_does_not_run_again_for_another_name_of_its_zone(declare, redis):
    def once(zone):
        return at(MONDAY.astimezone(zone), numbers.add, args=[2, 3], name=NAME)

    declare(once(UTC), now=MONDAY - HOUR)
    changes = declare(once(timezone(HOUR)), now=MONDAY + HOUR)

    assert changes["over"] == 0
    assert next_at(redis) == MONDAY
