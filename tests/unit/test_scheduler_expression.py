"""Cron expressions: what they mean, and how a wrong one is refused."""

from datetime import datetime
from itertools import islice

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from jiffy.errors import InvalidCron
from jiffy.scheduler.expression import Expression


def walls(text, after, count=1):
    found = islice(Expression.read(text).walls_after(datetime.fromisoformat(after)), count)
    return [f"{wall:%Y-%m-%d %H:%M}" for wall in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 6 * * mon", "2026-11-23 06:00"),
        ("*/10 * * * *", "2026-11-20 13:40"),
        ("5/20 * * * *", "2026-11-20 13:45"),
        ("30 4 1,15 * *", "2026-12-01 04:30"),
        ("0 9-17/4 * * 1-5", "2026-11-20 17:00"),
        ("0 0 * jan,feb *", "2027-01-01 00:00"),
        ("0 0 * * SUN", "2026-11-22 00:00"),
        ("0 0 * * 7", "2026-11-22 00:00"),
        ("0 0 * * sat-sun", "2026-11-21 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("@daily", "2026-11-21 00:00"),
        ("@hourly", "2026-11-20 14:00"),
    ],
)
def test_the_next_time_is_the_one_that_cron_would_take(text, expected):
    assert walls(text, "2026-11-20 13:37:21") == [expected]


def test_a_day_and_a_weekday_that_are_both_given_are_alternatives():
    expected = ["2026-12-06 00:00", "2026-12-13 00:00", "2026-12-20 00:00", "2026-12-24 00:00"]

    assert walls("0 0 24 * sun", "2026-12-01", 4) == expected


def test_a_time_is_never_its_own_successor():
    assert walls("0 6 * * *", "2026-11-20 06:00") == ["2026-11-21 06:00"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("61 * * * *", "has minute 61; minutes go from 0 to 59."),
        ("* 24 * * *", "has hour 24; hours go from 0 to 23."),
        ("* * 0 * *", "has day 0; days go from 1 to 31."),
        ("* * * 13 *", "has month 13; months go from 1 to 12, or jan to dec."),
        ("* * * * 8", "has weekday 8; weekdays go from 0 to 7, or sun to sat."),
        ("* * * * monday", "has weekday 'monday'; weekdays go from 0 to 7, or sun to sat."),
        ("-5 * * * *", "has minute '-5'; minutes go from 0 to 59."),
        ("0 8-6 * * *", "has hour 8-6, which runs backwards; write the smaller number first."),
        ("*/0 * * * *", "has minute step '0'; a step is a number from 1."),
        ("*/x * * * *", "has minute step 'x'; a step is a number from 1."),
        ("* * * *", "has 4 fields; it needs five: minute hour day month weekday."),
        ("0 0 * * * *", "has 6 fields; it needs five: minute hour day month weekday."),
        ("", "has 0 fields; it needs five: minute hour day month weekday."),
        ("@dayly", "is no short form (did you mean '@daily'?)."),
        ("0 0 30 2 *", "never comes: no month has such a day."),
    ],
)
def test_a_wrong_expression_is_refused_with_its_field_and_what_that_may_be(text, reason):
    with pytest.raises(InvalidCron) as refused:
        Expression.read(text)

    assert str(refused.value) == f"cron {text!r} {reason}"


def fields(first, last, *, steps=True):
    numbers = st.integers(first, last)
    some = st.lists(numbers, min_size=1, max_size=4).map(lambda found: ",".join(map(str, found)))
    ends = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
    spans = ends.map(lambda found: f"{found[0]}-{found[1]}")
    choices = [st.just("*"), some, spans]
    if steps:
        choices.append(st.integers(1, last).map("*/{}".format))
    return st.one_of(choices)


# Left out: a step on the day or the weekday, on whose meaning cron and croniter do not agree, and
# a range of one number, which croniter takes for all of them.
expressions = st.tuples(
    fields(0, 59), fields(0, 23), fields(1, 28, steps=False), fields(1, 12),
    fields(0, 6, steps=False),
).map(" ".join)  # fmt: skip


wall_times = st.datetimes(
    datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2040-01-01")
)


@settings(max_examples=30, deadline=None)
@given(expressions, wall_times)
def test_times_are_those_that_croniter_finds(text, after):
    found = next(Expression.read(text).walls_after(after))

    assert found == croniter(text, after).get_next(datetime)
