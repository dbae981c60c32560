"""The table: what is wrong with a line is said before anything runs."""

import json
import re
from datetime import UTC, datetime

import pytest

from jiffy import at, cron, every, run_scheduler, simulate
from jiffy.errors import InvalidEntry, InvalidSchedule
from jiffy.scheduler.entry import read
from jiffy.testing import check_schedule
from jobs import numbers

MOMENT = datetime(2999, 1, 1, tzinfo=UTC)


def mistakes(*lines):
    with pytest.raises(InvalidSchedule) as refused:
        read(lines)
    return [str(error) for error in refused.value.mistakes]


def entry(line):
    [found] = read([line])
    return found


def add(**changes):
    return every("10m", numbers.add, **{"args": [2, 3]} | changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (every("10m", numbers.add, args=[2]), "add() needs the argument 'y'. It takes "),
        (every("10m", numbers.add, 2, 3), "argument is 2; it must be written as args=[2, 3]."),
        (add(args="photos"), "args is 'photos'; it must be a list, such as ['photos']."),
        (add(kwargs=[3]), "kwargs is [3]; it must be a dict, such as {'days': 30}."),
        (every("10m", "jobs.numbers.add", args=[2, 3]),
         "function is 'jobs.numbers.add'; it must be a function itself, such as numbers.add."),
        (every("10m", print), "'builtins.print' is not under jobs. "),
        (add(quue="low"), "option is 'quue'; it must be one of expires, ttl, queue, "),
        (add(job_id="mine"),
         "job_id is 'mine'; it must be left out: each run is a job with its own id."),
        (add(unique="1h"), "unique is '1h'; it must be left out: a run is enqueued once; "),
        (add(overlap="queue_one"),
         "overlap is 'queue_one'; it must be one of 'skip', 'allow', 'queue one', 'replace' "
         "(did you mean 'queue one'?)."),
        (add(missed="never"), "missed is 'never'; it must be one of 'once', 'skip', 'all'."),
        (add(missed="all"),
         "missed is 'all'; it must be given with overlap='allow': they come all at once."),
        (add(jitter="10m"),
         "jitter is '10m'; it must be shorter than the time between two runs, 10m."),
        (cron("0,2 6 * * *", numbers.add, args=[2, 3], jitter="5m"),
         "jitter is '5m'; it must be shorter than the time between two runs, 2m."),
        (add(timezone="UTC"), "timezone is 'UTC'; it must be left out: only cron(…) has one."),
        (add(jitter="some"), "jitter is 'some'; it must be 0 or more seconds, or a string "),
        (add(repeat=0), "repeat is 0; it must be how many runs in all, from 1."),
        (at(MOMENT, numbers.add, args=[2, 3], repeat=3),
         "repeat is 3; it must be left out: this entry runs once."),
        (add(timeout="soon"), "timeout is 'soon'; it must be 0 or more seconds, "),
        (add(args=[2, "x"]), "jobs.numbers.add: y: expected a number, got 'x'."),
        (add(name="my sum"),
         "name is 'my sum'; it must be at most 200 letters, digits, dots, dashes and "),
        (add(name="n" * 201), f"name is '{'n' * 201}'; it must be at most 200 letters, "),
        ("0 6 * * *", "it is a str, not an entry; write every(...), cron(...) or at(...)."),
        ([add()], "it is a list; write *LIST to include its entries."),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_refused_with_its_number_and_the_reason(line, reason):
    [said] = mistakes(add(), line)

    assert said.startswith(f"scheduler.py, entry 2: {reason}")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([cron("0 6 * * *", numbers.add, args=[1, 2], tz="Europe/Paris")],
         r"option is 'tz'; .* \(did you mean 'timezone'\?\)\.$"),
        ([add(), add(name="other"), add(queue="low")],
         r"scheduler\.py, entry 3: its name 'jobs\.numbers\.add' is that of entry 1; "
         r"give one of them another, such as name='nightly'\."),
        ([add(name="a.b"), add(name="a-b")],
         r"scheduler\.py, entry 2: its name 'a-b' is that of entry 1, 'a\.b': dots and dashes are "
         "the same here; give one of them another"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_refused_with_a_better_one_or_whose_it_is(lines, said):
    [mistake] = mistakes(*lines)

    assert re.search(said, mistake)


@pytest.mark.parametrize("line", [lambda line: line, lambda line: [line], lambda line: {"a": line}])
def test_a_line_in_the_wrong_place_shows_nothing_of_its_secrets(line):
    secret = add(kwargs={"password": "hunter2"}, ping="https://hc-ping.com/hunter2")
    said = [*mistakes(line(secret)), repr(line(secret))]

    assert "hunter2" not in "".join(said)


@pytest.mark.parametrize(
    ("schedule", "kind"), [(add(), "Line"), (None, "NoneType"), ("0 6 * * *", "str"), ({}, "dict")]
)
def test_a_schedule_that_is_no_list_is_refused_in_one_line(schedule, kind, capsys):
    said = f"scheduler.py: SCHEDULE must be a list, such as [every(...)]; it is a {kind}."
    with pytest.raises(SystemExit) as ended:
        run_scheduler(schedule, ["--check"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{said}\n"

    with pytest.raises(InvalidSchedule, match=re.escape(said)):
        simulate(schedule, MOMENT, MOMENT)
    with pytest.raises(pytest.fail.Exception, match=re.escape(said)):
        check_schedule(schedule)


def test_all_mistakes_are_found_at_once():
    with pytest.raises(InvalidSchedule) as refused:
        read([add(timeout="x"), add(), add(queue=5)])

    assert [error.number for error in refused.value.mistakes] == [1, 3]
    assert isinstance(refused.value.mistakes[0], InvalidEntry)


def test_options_and_the_functions_own_arguments_do_not_mix():
    fields = entry(
        every("10m", numbers.add, args=[2], kwargs={"y": 3}, queue="low", timeout="2m", retry=3)
    ).run_fields

    assert json.loads(fields["data"])[2:] == [[2], {"y": 3}]
    assert [fields[name] for name in ("origin", "timeout", "retries_left")] == ["low", 120, 3]


def test_what_is_usual_is_not_said_of_an_entry():
    usual, special = entry(add()), entry(add(overlap="replace", jitter="30s", repeat=3))

    assert usual.times_in_words() == "every 10m"
    assert special.times_in_words() == "every 10m, overlap: replace, jitter 30 s, 3 times in all"
