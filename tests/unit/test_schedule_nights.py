"""Clocks that are changed, in many places over decades, against a reference that shares no code.

The reference asks only what time it is somewhere at a given moment, and walks: it finds the spans
without a change, and for each time of a clock the first moment at which that is shown or passed; or
where the expression runs in real time, each moment at which it is shown.
"""

from bisect import bisect_left
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from jiffy.cron_times import Cron

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

ZONES = [
    "Europe/Paris",
    "America/New_York",
    "Europe/Dublin",  # summer is the standard time, winter one hour less
    "Africa/Casablanca",  # the same, in Ramadan
    "Australia/Lord_Howe",  # half an hour
    "Antarctica/Troll",  # two hours
    "Pacific/Chatham",  # 45 minutes off the hour, changed at 2:45
    "Pacific/Apia",  # no 30 December 2011
    "America/Sao_Paulo",  # changed at midnight, until 2019
    "America/Santiago",  # changed at midnight
    "America/St_Johns",  # changed at 00:01, until 2011
    "Asia/Beirut",  # changed at midnight
    "Africa/Cairo",  # changed at midnight; not from 2015 to 2022
    "Asia/Gaza",  # changed in Ramadan, too
    "Pacific/Norfolk",  # another offset since 2015
    "Asia/Pyongyang",  # half an hour in 2015, and back in 2018
    "America/Caracas",  # half an hour in 2016
    "Europe/Volgograd",  # moved to another zone and back
    "Asia/Kolkata",  # never
]
DECADES = [2009, 2026]


@lru_cache
def spans(name, year):
    """The spans in which the clock is not changed: begin, end, how far it is ahead.

    They cover ten years and two months on either side, since a test looks around each change.
    """
    zone = ZoneInfo(name)
    begin, end = datetime(year - 1, 11, 1, tzinfo=UTC), datetime(year + 10, 3, 1, tzinfo=UTC)
    moments = [begin, *changes(begin, end, zone), end]
    return [(sooner, later, ahead(sooner, zone)) for sooner, later in pairwise(moments)]


def changes(begin, end, zone, widths=(DAY, HOUR, MINUTE)):
    """Walk in days, through each day with a change in hours, and so on."""
    step, *finer = widths
    for moment in steps(begin, end, step):
        if ahead(moment, zone) != ahead(moment + step, zone):
            yield from changes(moment, moment + step, zone, finer) if finer else [moment + step]


def steps(begin, end, step):
    while begin < end:
        yield begin
        begin += step


def ahead(moment, zone):
    return moment.astimezone(zone).utcoffset()


def first_reached(walls, name, year):
    """For the times of a clock, in order, the first moments at which it shows that or more."""
    found, later = [], iter(spans(name, year))
    begin, end, offset = next(later)
    for wall in walls:
        while (moment := (wall - offset).replace(tzinfo=UTC)) >= end:
            begin, end, offset = next(later)
        if found[-1:] != [max(begin, moment)]:
            found.append(max(begin, moment))
    return found


def each_shown(walls, name, year):
    """All moments at which the clock shows one of these times."""
    walls = list(walls)
    found = set()
    for begin, end, offset in spans(name, year):
        low = bisect_left(walls, (begin + offset).replace(tzinfo=None))
        high = bisect_left(walls, (end + offset).replace(tzinfo=None))
        found |= {(wall - offset).replace(tzinfo=UTC) for wall in walls[low:high]}
    return sorted(found)


def walls(first, last, times, weekdays):
    """All the times of a clock from one day to another."""
    for number in range((last - first).days):
        day = first + number * DAY
        if day.isoweekday() % 7 in weekdays:
            yield from (datetime.combine(day, moment) for moment in times)


def some(last, most):
    return st.sets(st.integers(0, last), min_size=1, max_size=most).map(sorted)


@settings(max_examples=60)
@given(
    st.sampled_from(ZONES), st.sampled_from(DECADES), st.integers(0, 100), st.integers(-40, 2),
    st.integers(0, 86_399), some(59, 2), some(59, 3) | st.just(range(0, 60, 20)),
    st.none() | some(23, 24), some(6, 7),
)  # fmt: skip
def test_around_changes_of_the_clock_each_run_comes_when_the_rule_says(
    name, year, which, days, second, seconds, minutes, hours, weekdays
):
    known = [begin for begin, _, _ in spans(name, year) if year <= begin.year < year + 10] or [
        datetime(year + 5, 1, 1, tzinfo=UTC)
    ]
    start = known[which % len(known)] + days * DAY + timedelta(seconds=second)
    is_step = isinstance(minutes, range)
    shown = ["*/20"] if is_step else minutes
    fields = [",".join(map(str, some)) for some in (seconds, shown, hours or ["*"])]
    timing = Cron.read(f"{' '.join(fields)} * * {','.join(map(str, weekdays))}", name)
    first, last = start.date() - 3 * DAY, start.date() + 45 * DAY
    times = [time(h, m, s) for h in hours or range(24) for m in minutes for s in seconds]

    reference = first_reached if hours and not is_step else each_shown
    reached = reference(walls(first, last, times, weekdays), name, year)
    stop = start + 41 * DAY
    expected = [moment for moment in reached if start < moment <= stop]

    assert list(takewhile(stop.__ge__, timing.after(start))) == expected
