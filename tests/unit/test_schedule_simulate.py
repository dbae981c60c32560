"""Simulation: what a table would do, worked out without Redis and without waiting."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

from jiffy import at, cron, every, simulate
from jiffy.errors import InvalidValue
from jobs import numbers

YEAR = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def day(number, hour=0, minute=0, zone=UTC):
    return datetime(2026, 3, number, hour, minute, tzinfo=zone)


def line(make, when, **changes):
    return make(when, numbers.add, **{"args": [2, 3]} | changes)


def slots(*schedule, start, end):
    return [tick.slot for tick in simulate(schedule, start, end)]


def test_a_run_says_what_is_enqueued_when_and_where():
    table = [line(cron, "0 6 * * *", name="sum", queue="low", timezone="Europe/Paris")]
    [tick] = simulate(table, day(1), day(2))

    assert tick == (day(1, 5), day(1, 5), "sum", "jobs.numbers.add", "low")
    assert (tick.slot, tick.name, tick.queue) == (day(1, 5), "sum", "low")


def test_all_entries_come_in_the_order_of_their_times():
    table = [
        line(every, "6h", name="b"),
        line(at, day(1, 7), name="c"),
        line(every, "8h", name="a"),
    ]
    simulated = [(tick.slot.hour, tick.name) for tick in simulate(table, day(1), day(1, 13))]

    assert simulated == [(0, "a"), (0, "b"), (6, "b"), (7, "c"), (8, "a"), (12, "b")]


def test_the_start_is_included_and_the_end_is_not():
    assert slots(line(every, "1d"), start=day(1), end=day(3)) == [day(1), day(2)]


def test_entries_begin_end_and_repeat_as_they_would():
    daily = line(cron, "0 6 * * *", start=day(2, 6), end=day(4, 6), name="daily")
    twice = line(every, "1d", repeat=2, name="twice")

    assert slots(daily, start=day(1), end=day(9)) == [day(2, 6), day(3, 6), day(4, 6)]
    assert slots(twice, start=day(1), end=day(9)) == [day(1), day(2)]
    assert slots(line(at, day(5)), start=day(6), end=day(9)) == []


def test_jitter_moves_a_run_by_less_than_it_says_and_always_by_the_same():
    table = [line(every, "1m", jitter="30s")]
    ticks = list(islice(simulate(table, *YEAR), 500))
    late_s = [(tick.due - tick.slot).total_seconds() for tick in ticks]

    assert all(0 <= late < 30 for late in late_s)
    assert max(late_s) - min(late_s) > 20
    assert all(sooner.due < later.due for sooner, later in pairwise(ticks))
    assert ticks == list(islice(simulate(table, *YEAR), 500))


def test_times_without_a_zone_are_refused():
    with pytest.raises(InvalidValue, match="it must be a datetime with a zone"):
        simulate([], datetime.fromisoformat("2026-03-01"), day(2))
