"""What `--check` shows: the schedule, in columns."""

from datetime import UTC, datetime

import pytest

from jiffy import at, clock, cron, every, run_scheduler
from jobs import numbers

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.fixture
def check(capsys, monkeypatch):
    def shown(*lines):
        monkeypatch.setattr(clock, "now", lambda: NOW)
        run_scheduler(lines, ["--check"])
        return capsys.readouterr().out

    return shown


def line(make, when, **changes):
    return make(when, numbers.add, **{"args": [2, 3]} | changes)


def test_the_schedule_is_shown_in_columns_with_five_times_in_each_entrys_zone(check):
    shown = check(
        line(every, "1d", name="daily"),
        line(cron, "0 6 * * mon", name="weekly-report", timezone="Asia/Kathmandu", queue="low"),
    )

    assert shown == (
        "2 entries, all valid.\n"
        "\n"
        "1  daily          every 1d\n"
        "   jobs.numbers.add(2, 3), queue default\n"
        "   Sat 21 Nov 00:00  Sun 22 Nov 00:00  Mon 23 Nov 00:00  Tue 24 Nov 00:00  "
        "Wed 25 Nov 00:00\n"
        "\n"
        "2  weekly-report  cron '0 6 * * mon' on the clock of Asia/Kathmandu\n"
        "   jobs.numbers.add(2, 3), queue low\n"
        "   Mon 23 Nov 06:00  Mon 30 Nov 06:00  Mon 07 Dec 06:00  Mon 14 Dec 06:00  "
        "Mon 21 Dec 06:00\n"
    )


def test_years_and_seconds_are_shown_where_they_matter(check):
    assert "   Fri 01 Jan 2027 00:00  Sat 01 Jan 2028 00:00  " in check(line(cron, "@yearly"))
    assert "   Fri 20 Nov 12:30:30  Fri 20 Nov 12:31:00  " in check(line(every, "30s"))


def test_an_entry_that_ends_says_so_and_one_that_is_over_too(check):
    moment = datetime(2026, 11, 21, 9, tzinfo=UTC)

    assert check(line(at, moment)).endswith("   Sat 21 Nov 09:00  then no more\n")
    assert check(line(at, NOW)).endswith("   no more runs\n")
    assert check(line(every, "1d", repeat=1)).endswith("   Sat 21 Nov 00:00  then no more\n")


def test_whatever_an_entry_holds_it_has_its_lines_and_no_more(check):
    odd = line(cron, "0 6\n* *  mon", name="odd", description="two\nlines")

    assert check(odd).splitlines()[2:4] == [
        "1  odd  cron '0 6 * * mon' on the clock of UTC",
        "   two lines, queue default",
    ]


def test_of_the_urls_that_an_entry_notifies_no_secret_is_shown(check):
    hook, ping = "https://example.com/5d5b1b1e", "https://hc-ping.com/5d5b1b1e"
    shown = check(line(every, "1d", on_missed=hook, ping=ping))

    assert "on_missed: https://example.com/***, ping: https://hc-ping.com/***\n" in shown
    assert "5d5b1b1e" not in shown
