"""A table is put in force: what becomes of ticks that are due, and of what Redis has lost."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from jiffy import entries, keys
from jiffy.scheduler import at, cron, every, table
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.loop import Loop
from jiffy.scheduler.schedule import Scheduler
from jiffy.ticks import line_of
from jobs import mail, numbers

ENTRY, NAME = "entry-sum", "sum"
MONDAY = datetime(2026, 11, 23, 6, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def daily(expression="0 6 * * *", **changes):
    return cron(expression, numbers.add, args=[2, 3], name=NAME, **changes)


def next_at(redis):
    score = redis.zscore(keys.ENTRIES, ENTRY)
    return score and datetime.fromtimestamp(score, UTC)


def told(redis):
    return [(one.outcome, one.slot, one.reason) for one in entries.history(redis, NAME)]


@pytest.fixture
def lead(redis):
    """Put a table in force, and see to it as the leader: `lead(line, …)`; returns the loop."""

    def begin(*lines):
        scheduler, found = Scheduler(connection=redis), table.right(lines)
        alerts, now = Alerts(found), scheduler.look().now
        table.apply(scheduler, found, now, alerts)
        return Loop(scheduler, found, alerts, now)

    return begin


# Other times


def test_a_tick_that_is_due_stays_due_where_the_new_times_have_it_too(declare, redis):
    declare(daily(), now=MONDAY - MINUTE)
    declare(daily("0 6 * * mon-fri"), now=MONDAY + MINUTE)

    assert next_at(redis) == MONDAY
    assert told(redis) == []


def test_a_tick_that_is_due_and_that_the_new_times_have_not_is_told_as_missed(declare, redis):
    declare(daily(), now=MONDAY - MINUTE)
    declare(daily("0 7 * * *"), now=MONDAY + MINUTE)

    assert next_at(redis) == MONDAY + timedelta(hours=1)
    reason = "its times were changed before it was enqueued"
    assert told(redis) == [("missed", MONDAY, reason)]
    assert redis.hgetall(keys.TICK_COUNTS) == {b"missed": b"1"}


def test_whom_the_entry_names_hears_of_a_tick_that_other_times_have_dropped(redis):
    heard = []

    class Ears(Alerts):
        def _tell(self, entry, slot, now, reason, slots=1):
            heard.append((entry.name, slot, reason))

    scheduler = Scheduler(connection=redis)
    for expression, now in (("0 6 * * *", MONDAY - MINUTE), ("0 7 * * *", MONDAY + MINUTE)):
        found = table.right([daily(expression, on_missed=mail.send)])
        table.apply(scheduler, found, now, Ears(found))

    assert heard == [(NAME, MONDAY, "its times were changed before it was enqueued")]


def test_a_tick_that_is_not_due_yet_moves_to_the_new_times_and_nothing_is_missed(declare, redis):
    declare(daily(), now=MONDAY - MINUTE)
    declare(daily("1 6 * * *"), now=MONDAY - MINUTE)

    assert next_at(redis) == MONDAY + MINUTE
    assert told(redis) == []


def test_times_in_another_spelling_are_taken_over_and_leave_the_next_time(declare, redis):
    declare(daily("0 6 * * mon"), now=MONDAY - MINUTE)
    changes = declare(daily("00 06 * * 1"), now=MONDAY + MINUTE)

    assert changes["changed"] == 1
    assert next_at(redis) == MONDAY
    assert "00 06" in entries.read(redis)[0].words


@pytest.mark.parametrize(("before", "after"), [("10m", 0), (0, "10m"), ("10m", "20m")])
def test_another_jitter_leaves_the_slot_and_moves_when_it_is_enqueued(
    before, after, declare, scheduler, redis
):
    line = {"name": NAME, "args": [2, 3], "overlap": "allow"}
    declare(every("1h", numbers.add, jitter=before, **line), now=MONDAY - MINUTE)
    declare(every("1h", numbers.add, jitter=after, **line), now=MONDAY - MINUTE)
    [made] = scheduler.enqueue_due(scheduler.look(ENTRY))[-1:]
    slot = datetime.fromtimestamp(made.slot, UTC)

    assert (slot.minute, slot.second, slot.microsecond) == (0, 0, 0)
    assert (next_at(redis) > slot) if after else (next_at(redis).minute == 0)


def test_a_time_that_was_set_by_hand_stays_through_deploys(declare, scheduler, redis):
    declare(daily(), now=MONDAY - MINUTE)
    moment = MONDAY + timedelta(days=3, minutes=7)
    redis.zadd(keys.ENTRIES, {ENTRY: moment.timestamp()})
    declare(daily(queue="low"), now=MONDAY - MINUTE)

    assert next_at(redis) == moment


def test_a_tick_that_is_made_while_a_deploy_changes_the_times_is_not_made_again(
    declare, scheduler, redis
):
    declare(daily(), now=MONDAY - MINUTE)
    [entry] = table.right([daily("0 6,18 * * *")])
    seen = replace(scheduler.look(ENTRY), now=MONDAY)
    [made] = scheduler.enqueue_due(seen)
    table.apply(scheduler, [entry], MONDAY + MINUTE)

    assert scheduler.enqueue_due(seen) == []
    assert redis.lrange(keys.queue("default"), 0, -1) == [made.job_id.encode()]
    assert next_at(redis) == MONDAY + timedelta(hours=12)


# Nonsense in Redis


@pytest.mark.parametrize(
    "key",
    [
        keys.job(ENTRY), keys.entry_state(ENTRY), keys.ticks(ENTRY), keys.DECLARED,
        keys.SCHEDULE_WAKE, keys.IN_FORCE,
    ],
)  # fmt: skip
def test_a_key_that_somebody_made_nonsense_stops_no_start(key, declare, scheduler, redis):
    declare(daily(), now=MONDAY - MINUTE)
    for nonsense in ("text", [1]):
        redis.delete(key)
        redis.set(key, nonsense) if nonsense == "text" else redis.lpush(key, *nonsense)
        found = table.right([daily()])
        table.difference(scheduler, found)
        table.apply(scheduler, found, MONDAY - MINUTE)
        table.restore(scheduler, found, since=MONDAY)

        assert next_at(redis) == MONDAY
        assert entries.find(redis, NAME).words.startswith("cron '0 6 * * *'")
        assert redis.smembers(keys.DECLARED) == {ENTRY.encode()}


@pytest.mark.parametrize(
    ("field", "text"),
    [(keys.ENTRY_FIELD, "{"), (keys.ENTRY_FIELD, "[]"), (keys.TIMING_FIELD, "whenever"),
     (keys.ENTRY_FIELD, b"\xff")],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_is_shown_as_changed(field, text, declare, scheduler, redis):
    declare(daily())
    redis.hset(keys.job(ENTRY), field, text)
    [change] = table.difference(scheduler, table.right([daily()]))

    assert (change.kind, change.what) == (
        "changed",
        [("entry", "cannot be read", "as in the table")],
    )
    assert declare(daily())["changed"] == 1
    assert table.difference(scheduler, table.right([daily()]))[0].kind == "same"


# What Redis has lost


@pytest.mark.parametrize("jitter", [0, "50s"])
def test_an_entry_that_somebody_deleted_is_declared_again_told_of_and_its_tick_made(
    jitter, lead, redis, caplog
):
    line = every("1h", numbers.add, args=[2, 3], name=NAME, jitter=jitter)
    loop, [entry] = lead(line), table.right([line])
    slot = entry.timing.next_after(datetime.now(UTC) - 4 * HOUR)
    redis.zadd(keys.ENTRIES, {ENTRY: entry.policy.due(ENTRY, slot).timestamp()})
    redis.lpush(keys.ticks(ENTRY), line_of("t", MONDAY, MONDAY))
    redis.delete(keys.job(ENTRY))
    loop.work()
    ticks = entries.history(redis, NAME)

    assert len(redis.lrange(keys.queue("default"), 0, -1)) == 1
    assert (ticks[0].outcome, ticks[-2].slot, ticks[-1].slot) == ("open", slot, MONDAY)
    assert next_at(redis) > datetime.now(UTC)
    assert [line.split()[0] for line in caplog.messages if "mended" in line] == ["entry.mended"]


def test_whom_the_entry_names_hears_that_it_was_deleted(lead, redis):
    loop, heard = lead(every("1m", numbers.add, args=[2, 3], name=NAME)), []
    loop._alerts.broken = lambda found: heard.extend(one.entry_id for one in found)
    redis.zadd(keys.ENTRIES, {ENTRY: 1})
    redis.delete(keys.job(ENTRY))
    loop.work()

    assert heard == [ENTRY]


def test_a_scheduler_of_an_older_deploy_does_not_declare_what_was_deleted(lead, redis):
    old = lead(every("1m", numbers.add, args=[1, 1], name=NAME))
    lead(every("1m", numbers.add, args=[2, 2], name=NAME))
    redis.zadd(keys.ENTRIES, {ENTRY: 1})
    redis.delete(keys.job(ENTRY))
    old.work()

    assert not redis.exists(keys.job(ENTRY))
    assert redis.zscore(keys.ENTRIES, ENTRY) == 1
    lead(every("1m", numbers.add, args=[2, 2], name=NAME)).work()
    assert redis.hget(keys.job(ENTRY), "description") == b"jobs.numbers.add(2, 2)"


def test_what_a_newer_table_has_taken_away_meanwhile_is_not_declared_again(lead, scheduler, redis):
    lead(daily(), every("1h", numbers.add, args=[2, 3]))
    redis.zadd(keys.ENTRIES, {ENTRY: 1})
    redis.delete(keys.job(ENTRY))
    found = table.right([daily(), every("1h", numbers.add, args=[2, 3])])
    seen = scheduler.look()
    redis.zrem(keys.ENTRIES, ENTRY)
    table.mend(scheduler, seen, found)

    assert not redis.exists(keys.job(ENTRY))


def test_a_redis_that_was_set_back_to_before_a_deploy_gets_its_table_again(
    declare, scheduler, redis
):
    declare(daily(), now=MONDAY)
    table.restore(scheduler, table.right([daily(), every("1h", numbers.add, args=[2, 3])]),
                  since=MONDAY + HOUR)  # fmt: skip

    assert redis.zcard(keys.ENTRIES) == 2
    assert json.loads(redis.get(keys.IN_FORCE))["since"] == (MONDAY + HOUR).timestamp()


def test_a_scheduler_of_an_older_deploy_does_not_bring_its_table_back(declare, scheduler, redis):
    declare(daily("0 7 * * *"), now=MONDAY + HOUR)
    before = redis.hgetall(keys.job(ENTRY))
    table.restore(scheduler, table.right([daily()]), since=MONDAY)
    table.restore(scheduler, table.right([daily()]))

    assert redis.hgetall(keys.job(ENTRY)) == before


def test_an_entry_of_one_time_does_not_run_again_for_another_name_of_its_zone(declare, redis):
    def once(zone):
        return at(MONDAY.astimezone(zone), numbers.add, args=[2, 3], name=NAME)

    declare(once(UTC), now=MONDAY - HOUR)
    changes = declare(once(timezone(HOUR)), now=MONDAY + HOUR)

    assert changes["over"] == 0
    assert next_at(redis) == MONDAY
