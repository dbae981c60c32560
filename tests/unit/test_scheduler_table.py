"""The table: what is wrong with a line is said before anything runs."""

from datetime import datetime, timezone

import pytest

from jiffy.errors import InvalidEntry
from jiffy.scheduler import at, cron, every, table
from jobs import numbers

MOMENT = datetime(2030, 1, 1, tzinfo=timezone.utc)


def mistakes(*lines):
    return [str(error) for error in table.read(lines)[1]]


def entry(line):
    [found], wrong = table.read([line])
    assert wrong == []
    return found


def add(**changes):
    return every("10m", numbers.add, **{"args": [2, 3]} | changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            cron("61 * * * *", numbers.add, args=[2, 3]),
            "cron '61 * * * *' has minute 61 at character 1; minutes go from 0 to 59.",
        ),
        (
            every("10x", numbers.add, args=[2, 3]),
            "every is '10x'; it must be seconds, or a text such as '90s', '5m' or '1h30m'.",
        ),
        (
            cron("@daily", numbers.add, args=[2, 3], timezone="Europe/Pari"),
            "timezone is 'Europe/Pari'; it must be the name of a zone, such as 'Europe/Paris' "
            "(did you mean 'Europe/Paris'?).",
        ),
        (
            every("10m", numbers.add, args=[2]),
            "add() needs the argument 'y'. It takes ",
        ),
        (
            every("10m", numbers.add, kwargs={"x": 2, "z": 3}),
            "add() has no argument 'z'. It takes ",
        ),
        (
            every("10m", numbers.add, 2, 3),
            "argument is 2; it must be written as args=[2, 3].",
        ),
        (
            add(args="photos"),
            "args is 'photos'; it must be a list, such as ['photos'].",
        ),
        (
            add(kwargs=[3]),
            "kwargs is [3]; it must be a dict, such as {'days': 30}.",
        ),
        (
            every("10m", "jobs.numbers.add", args=[2, 3]),
            "function is 'jobs.numbers.add'; it must be a function itself, such as numbers.add.",
        ),
        (
            every("10m", print),
            "'builtins.print' is not under jobs. ",
        ),
        (
            add(quue="low"),
            "option is 'quue'; it must be one of queue, timeout, ",
        ),
        (
            add(job_id="mine"),
            "job_id is 'mine'; it must be left out: each tick is a job with an id of its own.",
        ),
        (
            add(unique="1h"),
            "unique is '1h'; it must be left out: a tick is enqueued once; ",
        ),
        (
            add(overlp="skip"),
            "option is 'overlp'; it must be one of ",
        ),
        (
            add(overlap="queue_one"),
            "overlap is 'queue_one'; it must be one of 'skip', 'allow', 'queue one', 'replace' "
            "(did you mean 'queue one'?).",
        ),
        (
            add(missed="never"),
            "missed is 'never'; it must be one of 'once', 'skip', 'all'.",
        ),
        (
            add(missed="all"),
            "missed is 'all'; it must be given with overlap='allow': they come all at once.",
        ),
        (
            add(jitter="10m"),
            "jitter is '10m'; it must be shorter than the time between two ticks, 10m.",
        ),
        (
            cron("0,2 6 * * *", numbers.add, args=[2, 3], jitter="5m"),
            "jitter is '5m'; it must be shorter than the time between two ticks, 2m.",
        ),
        (
            add(jitter="some"),
            "jitter is 'some'; it must be seconds, or a text ",
        ),
        (
            add(repeat=0),
            "repeat is 0; it must be how many ticks to make, from 1.",
        ),
        (
            at(MOMENT, numbers.add, args=[2, 3], repeat=3),
            "repeat is 3; it must be left out: this entry comes once.",
        ),
        (
            add(timeout="soon"),
            "timeout is 'soon'; it must be seconds, ",
        ),
        (
            add(retry="often"),
            "retry is 'often'; it must be how many times to try again, ",
        ),
        (
            add(queue=""),
            "queue is ''; it must be the name of a queue.",
        ),
        (
            add(meta={"by": object}),
            "meta is {'by': <class 'object'>}; it must be a dict that JSON can carry.",
        ),
        (
            add(args=[2, object]),
            "jobs.numbers.add: y cannot be sent as JSON: ",
        ),
        (
            add(name="my sum"),
            "name is 'my sum'; it must be letters, digits, dots, dashes and underscores.",
        ),
        (
            "0 6 * * *",
            "'0 6 * * *' is no entry; write every(...), cron(...) or at(...).",
        ),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_refused_with_its_number_and_the_reason(line, reason):
    [said] = mistakes(add(), line)

    assert said.startswith(f"scheduler.py, entry 2: {reason}")


def test_two_entries_of_one_name_are_refused():
    [said] = mistakes(add(), add(name="other"), add(queue="low"))

    assert said == (
        "scheduler.py, entry 3: its name 'jobs.numbers.add' is that of entry 1; "
        "give one of them another, such as name='nightly'."
    )


def test_all_mistakes_are_found_at_once_and_the_right_entries_kept():
    entries, wrong = table.read([add(timeout="x"), add(), add(queue=5)])

    assert [error.number for error in wrong] == [1, 3]
    assert [found.name for found in entries] == ["jobs.numbers.add"]
    assert isinstance(wrong[0], InvalidEntry)


def test_an_entry_is_named_after_its_function_and_its_id_is_the_same_at_every_start():
    assert entry(add()).name == "jobs.numbers.add"
    assert entry(add()).id == entry(add()).id == "entry-jobs-numbers-add"


def test_options_and_the_functions_own_arguments_do_not_mix():
    job = entry(
        every("10m", numbers.add, args=[2], kwargs={"y": 3}, queue="low", timeout="2m", retry=3)
    ).job

    assert (job.args, job.kwargs) == ([2], {"y": 3})
    assert (job.origin, job.timeout, job.retries_left) == ("low", 120, 3)


def test_a_misspelt_name_is_told_with_the_right_one():
    [said] = mistakes(add(overlp="skip"))

    assert said.endswith("(did you mean 'overlap'?).")


def test_what_is_usual_is_not_said_of_an_entry():
    usual, special = entry(add()), entry(add(overlap="replace", jitter="30s", repeat=3))

    assert usual.times_in_words() == "every 10m"
    assert special.times_in_words() == "every 10m, overlap: replace, jitter 30 s, 3 times in all"
