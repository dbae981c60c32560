"""The schedule: that its table is right, and when its entries are due.  Copy what fits yours."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from jiffy.scheduler import table
from jiffy.scheduler.entry import next_after
from scheduler import SCHEDULE

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


@pytest.fixture
def entries():
    found, wrong = table.read(SCHEDULE)
    assert wrong == []
    return {entry.name: entry for entry in found}


def test_resized_pictures_are_cleared_away_every_day(entries):
    due = next_after(entries["jobs.cleanup.resized"], NOON)

    assert due - NOON <= timedelta(days=1)
    assert next_after(entries["jobs.cleanup.resized"], due) == due + timedelta(days=1)


@pytest.mark.parametrize("day", [NOON, NOON + timedelta(days=200)])
def test_the_report_is_written_at_six_in_the_morning_in_paris_summer_and_winter(entries, day):
    due = next_after(entries["jobs.reports.last_day"], day).astimezone(ZoneInfo("Europe/Paris"))

    assert (due.hour, due.minute) == (6, 0)
