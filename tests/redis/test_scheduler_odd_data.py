"""Whatever stands in Redis, a scheduler goes on: it leaves out what is odd, and runs all others."""

import pickle
import zlib

import pytest

from jiffy import clock, every, keys, redis_io
from jiffy.control import entries
from jiffy.scheduler.entry import read
from jiffy.scheduler.rq_entries import next_time
from jobs import numbers
from tests.support import schedules

LATER = clock.from_wall(clock.wall() + 1000)
DEEP = b"[" * 100_000
ENTRY = "entry-jobs-numbers-add"
STATE = keys.entry_state(ENTRY)
EACH_SECOND = every(1, numbers.add, args=[2, 3], overlap="allow")
# Runs whose job has not ended, as no scheduler writes them.
OPEN_TICKS = [
    b"", b"\xff", b"x", b"entry job", b"entry job line", b"entry job t|zz|0|||", b"a b t|1||||",
    b"entry job t|nan|0|||", b"entry job t|1e999|0|||", b"a b t|1|0||x|", b"a b t|1|0||",
]  # fmt: skip
# Which schedule is in force.
IN_FORCE = [
    DEEP, b"\xff", b"[]", b"5", b'{"table": 5}', b'{"table": "x", "since": 1%s}' % (b"0" * 400),
    *(b'{"table": "x", "since": %s}' % since for since in (b"1e999", b"NaN", b"9e9")),
]  # fmt: skip
STATES = [
    {"paused": DEEP}, {"paused": '{"who": {}, "why": [], "since": 1, "until": null}'},
    {"paused": '{"who": "a", "why": "b", "since": 1, "until": "x"}'}, {"paused": "5"},
    {"skip": "nan"}, {"skip": "1e999"}, {"slot": "253402300799"}, {"slot": "nan"}, {"slot": "x"},
    {"slot": "x", "times": b"\xff", "last": b"\xff", "ahead": "\n", "counted": "x", "done": "x"},
]  # fmt: skip


def test_open_runs_that_are_odd_are_dropped_and_the_others_completed(redis, declare, run_next):
    declare(every("7d", numbers.add, args=[2, 3]))
    [run] = run_next()
    redis.hset(keys.job(run.job_id), mapping={"status": "finished", "ended_at": "x"})
    redis.hset(keys.job(run.job_id), "started_at", "2026-01-01T00:00:00Z")
    for odd in OPEN_TICKS:
        redis.zadd(keys.OPEN_TICKS, {odd: 0})
    ended, _ = entries.follow_up(redis, LATER)

    assert [(one.job_id, one.outcome) for _, one in ended] == [(run.job_id, "finished")]
    assert redis.zcard(keys.OPEN_TICKS) == 0


def test_who_asks_for_a_run_may_have_a_bar_in_the_name(redis, declare):
    declare(every("7d", numbers.add, args=[2, 3]))
    job_id = entries.run_now(redis, "jobs.numbers.add", "a|b")
    redis.hset(keys.job(job_id), "status", "failed")
    redis.zadd(keys.OPEN_TICKS, dict.fromkeys(redis.zrange(keys.OPEN_TICKS, 0, -1), 0))
    [(_, run)], _ = entries.follow_up(redis, LATER)

    assert (run.outcome, run.reason) == ("failed", "by a|b")
    assert entries.history(redis, "jobs.numbers.add") == [run]


def is_in_force(declare, redis):
    return declare.schedule.is_in_force(redis.get(keys.IN_FORCE), redis_io.now(redis))


@pytest.mark.parametrize("stored", IN_FORCE)
def test_an_odd_mark_of_the_schedule_in_force_is_replaced(redis, declare, stored):
    declare(EACH_SECOND)
    redis.set(keys.IN_FORCE, stored)
    assert is_in_force(declare, redis) is None
    declare(EACH_SECOND)

    assert is_in_force(declare, redis) is True


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


META = [
    pickle.dumps({"interval": Bomb()}), b"\x00nonsense", b"[1]", b'{"interval": "often"}',
    b'{"cron_string": "61 * * * *"}',
    b"\x80\x02}r\xff\xff\xff\x07.",  # a pickle that stores an empty dict at place 134,217,727
    b"\x80\x02}p134217727\n.",
    # All keys have one hash: the time to build it grows with their square.
    pickle.dumps({number * (2**61 - 1): None for number in range(1, 7000)}),
    b'{"interval": -5}', b'{"interval": 0.1}', DEEP, b'{"a": "' + b"x" * 200_000 + b'"}',
    b'{"cron_string": "' + b"0-59/1," * 10_000 + b'1 * * * *"}',
]  # fmt: skip


@pytest.mark.parametrize("meta", META, ids=range(len(META)))
def test_an_entry_that_makes_no_sense_or_would_eat_memory_or_time_is_refused(meta):
    with pytest.raises((ValueError, TypeError, pickle.UnpicklingError, RecursionError)):
        next_time(meta, LATER, LATER)


@pytest.mark.parametrize("stored", STATES, ids=range(len(STATES)))
def test_an_odd_state_of_an_entry_keeps_it_from_no_run(redis, declare, stored):
    """What a page cannot show must not hold an entry back."""
    declare(every("7d", numbers.add, args=[2, 3], overlap="allow"))
    redis.hset(STATE, mapping=stored)
    declare(every("7d", numbers.add, args=[2, 3], overlap="allow"))

    assert [one.outcome for one in schedules.run_next(declare.schedule)] == ["enqueued"]


def test_who_paused_an_entry_may_be_no_text_and_the_others_run(redis, declare):
    lines = [every("7d", numbers.add, args=[2, 3], name=name, overlap="allow") for name in "ab"]
    declare(*lines)
    paused = b'{"who": "\xff", "why": "b", "since": 1, "until": null}'
    redis.hset(keys.entry_state("entry-a"), "paused", paused)

    made = {one.entry.name: one for one in schedules.run_next(declare.schedule)}
    assert (made["a"].outcome, made["b"].outcome) == ("skipped", "enqueued")
    assert made["a"].reason == "paused by \N{REPLACEMENT CHARACTER}: b"


def test_a_run_that_was_due_in_the_year_1_stops_no_schedule(redis, declare):
    lines = [every("7d", numbers.add, args=[2, 3], name=name, overlap="allow") for name in "ab"]
    declare(*lines)
    odd = {"times": "those of before", "next": "-62135596800"}
    redis.hset(keys.entry_state("entry-a"), mapping=odd)
    redis.zadd(keys.ENTRIES, {"entry-a": 1})
    declare(*lines)

    assert [one.outcome for one in schedules.run_next(declare.schedule)] == ["enqueued"] * 2


@pytest.mark.parametrize("is_declared_again", [True, False])
def test_a_slot_that_is_days_ahead_keeps_an_entry_from_no_run(redis, declare, is_declared_again):
    """As when Redis' clock was ahead, and is right again."""
    line = every("1h", numbers.add, args=[2, 3], overlap="allow")
    declare(line)
    redis.hset(STATE, "slot", f"{clock.wall() + 3 * 86400:.0f}")
    if is_declared_again:
        declare(line)

    assert [one.outcome for one in schedules.run_next(declare.schedule)] == ["enqueued"]
    assert float(redis.hget(STATE, "slot")) < clock.wall() + 3601


def test_something_else_where_entries_are_shown_stops_no_schedule(redis, declare):
    declare(EACH_SECOND)
    redis.delete(keys.ENTRIES)
    redis.set(keys.ENTRIES, "odd")
    [run] = schedules.run_next(declare.schedule)

    assert run.outcome == "enqueued"
    assert redis.zscore(keys.ENTRIES, ENTRY) == declare.schedule.next_due


@pytest.mark.parametrize("key", [keys.REGISTRIES["deferred"] + "default", "join", "pending"])
def test_a_run_waits_behind_the_last_one_whatever_stood_in_the_keys_for_that(redis, declare, key):
    declare(every("7d", numbers.add, args=[2, 3], name="a", overlap="queue one"))
    [first] = schedules.run_next(declare.schedule)
    redis.hset(keys.job(first.job_id), "status", "started")
    coming = entries.job_id_of("entry-a", clock.from_wall(declare.schedule.next_due))
    redis.set({"join": keys.join(coming), "pending": keys.pending(coming)}.get(key, key), "odd")

    assert [one.outcome for one in schedules.run_next(declare.schedule)] == ["enqueued"]
    assert redis.zrange(keys.REGISTRIES["deferred"] + "default", 0, -1) == [coming.encode()]
    assert redis.zrange(keys.pending(coming), 0, -1) == [first.job_id.encode()]


@pytest.mark.slow
def test_a_scheduler_goes_on_whatever_stands_in_its_keys(redis, start_scheduler):
    schedules.declare(redis, EACH_SECOND)
    running = start_scheduler(read([EACH_SECOND]))
    running.until_logged("tick.enqueued")
    for odd in OPEN_TICKS:
        redis.zadd(keys.OPEN_TICKS, {odd: 0})
    meta = {"data": zlib.compress(b'["jobs.numbers.add", null, [2, 3], {}]'), "created_at": "x"}
    redis.hset(keys.job("odd"), mapping=meta | {"meta": DEEP})
    redis.zadd(keys.ENTRIES, {"odd": 1, b"\xff": "-inf", "y": "inf"})
    for key, value in ((keys.IN_FORCE, DEEP), (keys.LEADER, DEEP), (keys.SCHEDULE_WAKE, "x")):
        redis.delete(key)
        redis.set(key, value, px=1500)
        count = len(running.lines("tick.enqueued"))
        running.until_logged("tick.enqueued", count=count + 2)
