"""When entries are due: a grid that does not drift, and clocks that go forward and back."""

from datetime import datetime, time, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from dateutil import tz
from hypothesis import given, settings
from hypothesis import strategies as st

from jiffy.errors import InvalidValue
from jiffy.scheduler.timing import Cron, Every, decode

UTC = timezone.utc
MINUTE = timedelta(minutes=1)

moments = st.integers(1_600_000_000, 2_200_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(text, timezone_name, after, count=1):
    """The next times, as UTC."""
    timing, moment, found = Cron.read(text, timezone_name), at(after), []
    for _ in range(count):
        moment = timing.next_after(moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


def test_every_ten_minutes_is_due_at_round_times():
    assert Every.read("10m").next_after(at("2026-11-20 13:37:21")) == at("2026-11-20 13:40")


@given(st.integers(1, 10**7), moments)
def test_an_interval_lies_on_a_grid_and_the_next_time_is_its_nearest_point(interval_s, moment):
    found = Every.read(interval_s).next_after(moment)

    assert found.timestamp() % interval_s == 0
    assert timedelta() < found - moment <= timedelta(seconds=interval_s)


@given(st.integers(1, 86400), moments, st.lists(st.floats(0, 0.999), min_size=1, max_size=20))
def test_however_late_each_tick_is_the_times_do_not_drift(interval_s, moment, latenesses):
    timing = Every.read(interval_s)
    first = found = timing.next_after(moment)
    for lateness in latenesses:
        found = timing.next_after(found + timedelta(seconds=interval_s * lateness))

    assert found == first + timedelta(seconds=interval_s * len(latenesses))


@pytest.mark.parametrize("interval", ["10x", "", -5, 0, 0.5, "1.5s", None, True, float("nan")])
def test_a_wrong_interval_is_refused(interval):
    with pytest.raises(InvalidValue, match="every is"):
        Every.read(interval)


def test_a_cron_entry_is_due_on_the_clock_of_its_own_zone():
    assert due("0 6 * * *", "Europe/Paris", "2026-07-01 00:00") == ["07-01 04:00"]
    assert due("0 6 * * *", "Europe/Paris", "2026-12-01 00:00") == ["12-01 05:00"]


def test_a_time_that_the_clock_skips_is_due_at_the_change():
    # In Paris 02:00 became 03:00 on 2026-03-29, at 01:00 UTC.
    expected = ["03-28 01:30", "03-29 01:00", "03-30 00:30"]

    assert due("30 2 * * *", "Europe/Paris", "2026-03-28 00:00", 3) == expected


def test_several_times_that_the_clock_skips_are_one():
    assert due("*/20 2,3 * * *", "Europe/Paris", "2026-03-29 00:59", 2) == [
        "03-29 01:00", "03-29 01:20",
    ]  # fmt: skip


def test_a_time_that_the_clock_shows_twice_is_due_once():
    # In Paris 03:00 became 02:00 on 2026-10-25, at 01:00 UTC.
    expected = ["10-25 00:30", "10-26 01:30"]

    assert due("30 2 * * *", "Europe/Paris", "2026-10-25 00:00", 2) == expected


def test_a_day_that_a_place_skipped_is_made_up_for_at_its_end():
    # Samoa went from the 29th to the 31st of December 2011, at 10:00 UTC.
    expected = ["12-29 19:00", "12-30 10:00", "12-30 19:00"]

    assert due("0 9 * * *", "Pacific/Apia", "2011-12-29 12:00", 3) == expected


@pytest.mark.parametrize("text", ["every 600", "cron Europe/Paris 0 6 * * mon"])
def test_a_timing_is_the_same_after_a_journey_through_redis(text):
    assert decode(text).text == text


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Pariss", "Europe/Paris"),
        ("europe/paris", "Europe/Paris"),
        ("Paris", "Europe/Paris"),
        ("new york", "America/New_York"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_one(name, hint):
    with pytest.raises(InvalidValue, match=f"timezone is '{name}'.*did you mean '{hint}'"):
        Cron.read("0 6 * * *", name)


@pytest.mark.parametrize("name", ["", "../etc/passwd", "/etc/localtime", "Europe", 5, None])
def test_what_is_no_zone_at_all_is_refused(name):
    with pytest.raises(InvalidValue, match="timezone is"):
        Cron.read("0 6 * * *", name)


# Changes of an hour, half an hour and two hours; at midnight; north and south of the equator.
ZONES = [
    "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll",
    "America/Santiago", "Africa/Cairo", "Asia/Beirut", "Asia/Kolkata",
]  # fmt: skip


def changes(zone):
    """The days of 2026 in which the clock of `zone` changes; some day where it never does."""
    days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(365)]
    step = timedelta(days=1)
    return [
        day for day in days
        if day.astimezone(zone).utcoffset() != (day + step).astimezone(zone).utcoffset()
    ] or days[:1]  # fmt: skip


@lru_cache
def clock_that_never_goes_back(name):
    """Each minute around the changes of a year, with the latest time that the clock has shown.

    Walking through time is slow and plain, and shares nothing with how it is done in earnest: even
    the zone's rules are read by another library.
    """
    stretches = []
    for day in changes(ZoneInfo(name)):
        zone, shown, minutes = tz.gettz(name), datetime.fromisoformat("0001-01-01"), []
        for n in range(-720, 2160):
            moment = day + n * MINUTE
            wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
            minutes.append((moment, shown, max(shown, wall)))
            shown = max(shown, wall)
        stretches.append(minutes[1:])
    return stretches


@settings(max_examples=40, deadline=None)  # the first of each zone walks through its year
@given(
    st.sampled_from(ZONES), st.sampled_from([0, 1]), st.integers(0, 2000),
    st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.sets(st.integers(0, 23), min_size=1, max_size=24),
)  # fmt: skip
def test_around_changes_of_the_clock_each_time_is_due_when_it_is_first_reached(
    name, which, start, minutes, hours
):
    stretches = clock_that_never_goes_back(name)
    stretch = stretches[which % len(stretches)][start:]
    moment = stretch[0][0]
    text = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"

    def reached(before, shown):
        days = {before.date(), shown.date()}
        named = [datetime.combine(d, time(h, m)) for d in days for h in hours for m in minutes]
        return any(before < wall <= shown for wall in named)

    expected = [minute for minute, before, shown in stretch[1:] if reached(before, shown)]
    timing, found = Cron.read(text, name), []
    while (moment := timing.next_after(moment)) <= stretch[-1][0]:
        found.append(moment)

    assert found == expected
