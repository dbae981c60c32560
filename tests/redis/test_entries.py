"""The entries as pages and scripts see them, and what may be done to them."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest
import rq_scheduler

from jiffy import at, clock, every, keys
from jiffy.control import entries
from jiffy.errors import InvalidValue, UnknownEntry
from jiffy.producer.enqueue import Job
from jobs import numbers
from tests.support.weekly import weekly

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def add(**changes):
    return weekly(numbers.add, **{"args": [2, 3], "name": "sum"} | changes)


def test_entries_are_listed_by_their_next_times_those_that_are_done_last(declare, redis):
    moments = {"later": timedelta(days=2), "over": -timedelta(days=1), "soon": timedelta(days=1)}
    now = clock.now()
    declare(*(at(now + moments[name], numbers.add, args=[2, 3], name=name) for name in moments))

    assert [state.name for state in entries.read(redis)] == ["soon", "later", "over"]
    assert [state.name for state in entries.read(redis, limit=2)] == ["soon", "later"]


def test_an_entry_shows_what_it_runs_and_when(declare, redis):
    declare(every("10m", numbers.add, args=[2, 3], name="sum", queue="low", jitter="30s"), now=NOON)
    [state] = entries.read(redis)

    assert (state.call, state.queue) == ("jobs.numbers.add(2, 3)", "low")
    assert state.words == "every 10m, jitter 30 s"
    assert timedelta(minutes=10) <= state.next_at - NOON <= timedelta(minutes=10, seconds=30)
    assert (state.is_of_table, state.is_done, state.paused, state.last) == (True, False, None, None)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


def test_entries_of_rq_scheduler_are_listed_too_and_reading_executes_nothing(scheduler, redis):
    stock = rq_scheduler.Scheduler(connection=redis)
    now = datetime.now(UTC)
    ours = scheduler.schedule(now, numbers.add, args=[2, 3], interval=60)
    theirs = stock.enqueue_at(now, numbers.add, 2, 3)
    redis.hset(keys.job(theirs.id), "meta", pickle.dumps({"interval": Bomb()}))
    found = {state.id: state for state in entries.read(redis)}

    assert not found[ours.id].is_of_table
    assert found[ours.id].words == "every 1m"
    assert found[theirs.id].words == "by rq-scheduler"


OPERATIONS = [
    entries.find,
    entries.history,
    entries.resume,
    entries.skip_next,
    lambda redis, name: entries.pause(redis, name, who="ada", why="x"),
    lambda redis, name: entries.run_now(redis, name, "ada"),
]


@pytest.mark.parametrize("do", OPERATIONS)
def test_what_is_no_entry_of_the_schedule_is_refused_with_what_to_do(do, declare, scheduler, redis):
    declare(add(name="reports.weekly"))
    scheduler.schedule(datetime.now(UTC), numbers.add, args=[2, 3], interval=60, id="foreign1")
    for name, is_foreign, what in (
        ("foreign1", True, "'foreign1' was made through rq-scheduler's API"),
        ("entry-reports-weekly", False, "No entry 'entry-reports-weekly'"),
        ("report.weekly", False, r"Did you mean 'reports\.weekly'\?"),
    ):
        with pytest.raises(UnknownEntry, match=what) as refused:
            do(redis, name)

        assert (refused.value.name, refused.value.is_foreign) == (name, is_foreign)


def test_a_job_run_by_hand_wakes_a_scheduler_so_its_end_is_noted_soon(declare, redis):
    declare(add())
    redis.delete(keys.SCHEDULE_WAKE)
    entries.run_now(redis, "sum", "ada")

    assert redis.llen(keys.SCHEDULE_WAKE) == 1


def test_an_entry_that_is_done_can_be_run_now(declare, work, redis):
    declare(at(datetime(2026, 1, 1, tzinfo=UTC), numbers.add, args=[2, 3], name="once"))
    job_id = entries.run_now(redis, "once", "ada")
    work()

    assert Job.fetch(job_id, redis).return_value() == 5
    assert entries.read(redis)[0].is_done


def test_what_runs_by_hand_is_in_the_way_of_the_next_run(declare, run_next, redis):
    declare(add())
    entries.run_now(redis, "sum", "ada")

    assert [one.outcome for one in run_next()] == ["skipped"]


@pytest.mark.parametrize(
    "given",
    [
        {"who": " ", "why": "x"},
        {"who": "ada", "why": "x" * 201},
        {"who": "ada", "why": "x", "until": datetime(2100, 1, 1)},  # noqa: DTZ001 - that it is naive
    ],
)
def test_a_pause_says_who_and_why_and_ends_in_the_future(given, declare, redis):
    declare(add())
    with pytest.raises(InvalidValue):
        entries.pause(redis, "sum", **given)
