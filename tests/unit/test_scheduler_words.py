"""What `--check` and `--dry-run` show."""

from datetime import UTC, datetime

from jiffy import at, cron, every
from jiffy.scheduler import table, words
from jiffy.scheduler.table import Change
from jobs import numbers

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def entries(*lines):
    return table.right(lines)


def line(make, when, **changes):
    return make(when, numbers.add, **{"args": [2, 3]} | changes)


def check(*lines):
    return words.of_table(entries(*lines), NOW)


def test_the_table_is_told_in_columns_with_five_times_in_each_entrys_zone():
    told = check(
        line(every, "1d", name="daily"),
        line(cron, "0 6 * * mon", name="weekly-report", timezone="Asia/Kathmandu", queue="low"),
    )

    assert told == (
        "2 entries, nothing wrong.\n"
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


def test_years_and_seconds_are_told_where_they_matter():
    assert "   Fri 01 Jan 2027 00:00  Sat 01 Jan 2028 00:00  " in check(line(cron, "@yearly"))
    assert "   Fri 20 Nov 12:30:30  Fri 20 Nov 12:31:00  " in check(line(every, "30s"))


def test_an_entry_that_ends_says_so_and_one_that_is_over_too():
    moment = datetime(2026, 11, 21, 9, tzinfo=UTC)

    assert check(line(at, moment)).endswith("   Sat 21 Nov 09:00  then never again\n")
    assert check(line(at, NOW)).endswith("   never again\n")
    assert check(line(every, "1d", repeat=1)).endswith("   Sat 21 Nov 00:00  then never again\n")


def test_whatever_an_entry_holds_it_has_its_lines_and_no_more():
    odd = line(cron, "0 6\n* *  mon", name="odd", description="two\nlines")
    changes = [Change("changed", "odd", [("description", "one\nline", "two\nlines")])]

    assert check(odd).splitlines()[2:4] == [
        "1  odd  cron '0 6 * * mon' on the clock of UTC",
        "   two lines, queue default",
    ]
    assert words.of_changes(changes, entries(odd)).splitlines()[1:] == [
        "changed  odd  description: one line → two lines"
    ]


def test_three_hundred_entries_stand_in_the_same_columns():
    told = check(
        *(line(every, "1d", name="n" * (1 + number % 30) + str(number)) for number in range(300))
    )
    heads = [text for text in told.splitlines() if "every 1d" in text]

    assert len(heads) == 300
    assert len({text.index("every 1d") for text in heads}) == 1


def test_changes_are_told_by_what_was_and_what_becomes_of_it():
    changes = [
        Change("same", "left-alone"),
        Change("new", "daily"),
        Change("changed", "old", [
            ("times", "every 1d", "every 12h"), ("origin", "default", "low"),
            ("call", ["jobs.numbers.add"], ["jobs.numbers.add"]),
            ("description", "jobs.numbers.add(1, 1)", "jobs.numbers.add(2, 3)"),
            ("jitter_s", 0, 30.0), ("meta", {}, {"by": "me"}),
        ]),
        Change("gone", "nobody-needs-it"),
    ]  # fmt: skip
    table = entries(
        line(every, "1d", name="daily"),
        line(every, "12h", name="old"),
        line(every, 5, name="left-alone"),
    )

    assert words.of_changes(changes, table) == (
        "3 entries: 1 new, 1 changed, 1 gone, 1 same. Nothing was written.\n"
        "new      daily            jobs.numbers.add(2, 3) every 1d, queue default\n"
        "changed  old              times: every 1d → every 12h\n"
        "                          queue: default → low\n"
        "                          description: jobs.numbers.add(1, 1) → jobs.numbers.add(2, 3)\n"
        "                          jitter: 0 → 30.0\n"
        '                          meta: none → {"by": "me"}\n'
        "gone     nobody-needs-it\n"
    )
