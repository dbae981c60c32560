"""The schedule: that its table is right, and when its entries are due.  Copy what fits yours."""

from datetime import datetime
from zoneinfo import ZoneInfo

from jiffy import simulate
from jiffy.testing import check_schedule
from jobs import cleanup, reports
from scheduler import SCHEDULE

PARIS = ZoneInfo("Europe/Paris")
YEAR = datetime(2026, 1, 1, tzinfo=PARIS), datetime(2027, 1, 1, tzinfo=PARIS)


def ticks_of(function):
    path = f"{function.__module__}.{function.__qualname__}"
    ticks = simulate(SCHEDULE, *YEAR)
    return [tick for tick in ticks if tick.function == path]


def test_the_table_has_no_mistakes():
    check_schedule(SCHEDULE)


def test_resized_pictures_are_cleared_away_every_day_behind_all_other_work():
    ticks = ticks_of(cleanup.resized)

    assert len(ticks) == 365
    assert {tick.queue for tick in ticks} == {"low"}


def test_the_report_is_written_at_six_in_the_morning_in_paris_summer_and_winter():
    times = [tick.slot.astimezone(PARIS) for tick in ticks_of(reports.last_day)]

    assert len(times) == 365
    assert {f"{time:%H:%M}" for time in times} == {"06:00"}
