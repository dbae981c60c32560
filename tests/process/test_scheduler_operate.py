"""`jiffy scheduler list | history | pause | resume | run | skip`."""

from datetime import UTC, datetime

import pytest

from jiffy import every, keys
from jiffy.control import entries
from jiffy.scheduler.rq_entries import Scheduler
from jobs import numbers
from tests.support import schedules


@pytest.fixture
def scheduler(redis):
    """One with the entry "sum" in force."""
    return schedules.declare(redis, every("10m", numbers.add, args=[2, 3], name="sum"))


@pytest.fixture
def shell(scheduler, command_line):
    """Type a command, `shell("pause", "sum", …)`; returns its exit code and its lines."""

    def run(*words):
        code, output, errors = command_line("scheduler", *words)
        return code, (output + errors).splitlines()

    return run


def next_tick(scheduler):
    [tick] = schedules.run_next(scheduler)
    return tick


def test_an_entry_is_paused_with_a_reason_and_resumed(shell, scheduler, redis):
    code, [said] = shell("pause", "sum", "--why", "no space left", "--who", "ada")
    assert (code, said) == (0, "sum is paused until you resume it.")
    assert next_tick(scheduler).reason == "paused by ada: no space left"

    assert shell("resume", "sum") == (0, ["sum is resumed."])
    assert next_tick(scheduler).outcome == "enqueued"


def test_a_pause_may_end_by_itself(shell, redis):
    code, [said] = shell("pause", "sum", "--why", "x", "--until", "2h")
    assert said.startswith("sum is paused until 20")
    paused = entries.read(redis)[0].paused

    assert code == 0
    assert 7100 < (paused.until - paused.since).total_seconds() < 7300


def test_a_job_of_an_entry_is_run_now_and_its_own_time_stays(shell, redis, work):
    before = redis.zrange(keys.ENTRIES, 0, -1, withscores=True)
    code, [said] = shell("run", "sum", "--who", "ada")
    [run] = entries.history(redis, "sum")

    assert (code, said) == (0, f"{run.job_id} is enqueued.")
    assert run.reason == "by ada"
    assert redis.zrange(keys.ENTRIES, 0, -1, withscores=True) == before
    assert work() == 1


def test_the_next_run_is_skipped(shell, scheduler):
    assert shell("skip", "sum") == (0, ["The next run of sum will be skipped."])
    assert next_tick(scheduler).outcome == "skipped"
    assert next_tick(scheduler).outcome == "enqueued"


def test_a_skip_is_taken_back_with_0(shell, scheduler):
    shell("skip", "sum")
    assert shell("skip", "sum", "--count", "0") == (0, ["No run of sum will be skipped."])
    assert next_tick(scheduler).outcome == "enqueued"


def test_of_an_entry_that_is_done_nothing_is_skipped(shell, redis):
    redis.zrem(keys.ENTRIES, "entry-sum")

    assert shell("skip", "sum") == (0, ["sum will not run again: there is nothing to skip."])
    assert entries.read(redis)[0].skip == 0


def test_the_list_shows_what_is_due_when_and_how_it_went(shell, scheduler):
    next_tick(scheduler)
    code, [head, line, away] = shell("list")

    assert code == 0
    assert away == "No scheduler is running: none of them is enqueued."
    assert head.split() == ["ENTRY", "NEXT", "(UTC)", "LAST", "TIMES"]
    assert line.startswith("sum ")
    assert "open" in line
    assert line.endswith("every 10m")


def test_the_history_shows_each_run(shell, scheduler):
    job_id = next_tick(scheduler).job_id
    next_tick(scheduler)
    code, [_, last, first] = shell("history", "sum")

    assert code == 0
    assert "skipped" in last
    assert first.endswith(job_id)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "sun"], "No entry 'sun' in the schedule. Did you mean 'sum'?"),
        (
            ["skip", "photos"],
            "No entry 'photos' in the schedule. `python -m jiffy scheduler ",
        ),
        (["pause", "sum", "--why", "x", "--until", "soon"], "until is 'soon'; it must be "),
        (["pause", "sum", "--why", "x", "--until", "2020-01-01T00:00:00Z"], "until is '2020"),
        (["pause", "sum", "--why", "x", "--until", "9999-12-31T23:59:59-14:00"], "until is '9999"),
        (["skip", "sum", "--count", "1001"], "count is 1001; it must be how many runs to skip"),
        (["history", "sum", "--limit", "0"], "limit is 0; it must be how many runs to show"),
        (["history", "sum", "--limit", "-3"], "limit is -3; it must be how many runs to show"),
        (["skip", "sum", "--count", "-1"], "count is -1; it must be how many runs to skip"),
    ],
)
def test_a_mistake_is_one_line(words, said, shell):
    code, [line] = shell(*words)

    assert code == 2
    assert line.startswith(said)


def test_an_entry_of_rq_schedulers_api_is_listed_and_who_operates_it_is_reported_how(shell, redis):
    now = datetime.now(UTC)
    stock = Scheduler(connection=redis)
    stock.schedule(now, numbers.add, args=[2, 3], interval=60, id="foreign1")
    assert any(line.startswith("foreign1 ") for line in shell("list")[1])
    code, [line] = shell("pause", "foreign1", "--why", "x")

    assert code == 2
    assert line.startswith("'foreign1' was made through rq-scheduler's API, ")


@pytest.mark.parametrize("option", ["--check", "--dry-run"])
def test_a_check_of_the_table_is_no_part_of_a_command(shell, option):
    code, lines = shell(option, "list")

    assert code == 2
    assert lines == ["--check and --dry-run are about the whole schedule: leave out 'list'."]
