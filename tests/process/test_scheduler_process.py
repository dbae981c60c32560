"""The command `python scheduler.py`: a real process, with a table of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from jiffy import keys
from jiffy.dev import redis_server

HOME = Path(__file__).parents[2]


@pytest.fixture
def program(tmp_path, redis_address):
    """Write a table and start it: `program("every(1, …)", "--check")`; none is left behind."""
    started = []

    def start(lines, *words, redis_url=redis_address):
        file = tmp_path / "scheduler.py"
        file.write_text(
            "from jiffy import cron, every, run_scheduler\n"
            "from jobs import numbers\n"
            f"run_scheduler([{lines}])\n"
        )
        paths = os.pathsep.join([str(HOME), os.environ.get("PYTHONPATH", "")])
        environ = {"PYTHONPATH": paths, "REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, str(file), *words],
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(process, event):
    """Read the log up to the first line with `event`, and return that line."""
    for line in process.stdout:
        if event in line:
            return line
    raise AssertionError(f"{event} did not come; {process.stderr.read()}")


EVERY_SECOND = "every(1, numbers.add, args=[2, 3], overlap='allow')"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_arrive_a_signal_ends_it_and_a_restart_doubles_nothing(redis, program, number):
    first = program(EVERY_SECOND)
    assert "entries=1" in until(first, "scheduler.started")
    until(first, "tick.enqueued")
    for _ in range(2):  # a platform may send it twice
        first.send_signal(number)
    assert first.wait() == 0
    assert "scheduler.stopped" in first.stdout.read()
    due = redis.zrange(keys.ENTRIES, 0, -1, withscores=True)

    second, third = program(EVERY_SECOND), program(EVERY_SECOND)
    until(second, "scheduler.started")
    assert redis.zcard(keys.ENTRIES) == len(due) == 1
    until(third, "scheduler.started")
    waiting = keys.queue("default")
    ticks = [redis.blmove(waiting, "seen", 5, "LEFT", "RIGHT") for _ in range(4)]

    assert None not in ticks
    assert len(set(ticks)) == 4


@pytest.mark.slow
def test_usual_options_hold_for_the_schedule_also_when_they_alone_have_changed(
    redis, program, tmp_path
):
    for queue in ("low", "high"):
        (tmp_path / "enqueue.py").write_text(
            "from jiffy import options\n"
            "from jobs import numbers\n"
            f"OPTIONS = {{numbers.add: options(queue={queue!r}, timeout='9m')}}\n"
        )
        process = program(EVERY_SECOND)
        until(process, "tick.enqueued")
        process.send_signal(signal.SIGTERM)
        process.wait()
        job_id = redis.lindex(keys.queue(queue), 0)

        assert redis.hget(keys.job(job_id.decode()), "timeout") == b"540"
    assert not redis.exists(keys.queue("default"))


@pytest.mark.slow
def test_it_stops_also_while_redis_does_not_answer(tmp_path, program):
    address = redis_server.start(tmp_path, keep=False)
    server = Redis.from_url(address).info("server")["process_id"]
    process = program(EVERY_SECOND, redis_url=address)
    until(process, "tick.enqueued")
    os.kill(server, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait() == 0
    finally:
        os.kill(server, signal.SIGCONT)
        redis_server.stop(address)


def test_it_says_which_entries_are_wrong_and_why_and_does_not_start(program):
    cron = "cron('61 * * * *', numbers.add, args=[2, 3])"
    wrong = program(f"{cron}, {EVERY_SECOND}, every('2m', numbers.add)")
    out, err = wrong.communicate()

    assert (wrong.returncode, out) == (2, "")
    assert err.splitlines()[0] == (
        "scheduler.py, entry 1: cron '61 * * * *' has minute 61 at character 1; "
        "minutes go from 0 to 59."
    )
    assert err.splitlines()[1].startswith("scheduler.py, entry 3: add() needs the argument 'x'.")


def test_the_check_shows_the_table_in_words_with_the_next_times_and_needs_no_redis(program):
    lines = f"{EVERY_SECOND}, cron('0 6 * * mon', numbers.add, args=[2, 3], name='weekly')"
    check = program(lines, "--check", redis_url="redis://localhost:1/0")
    out, err = check.communicate()

    assert (check.returncode, err) == (0, "")
    assert "2  weekly            cron '0 6 * * mon' on the clock of UTC\n" in out
    assert out.count("Mon ") >= 5


def test_the_dry_run_shows_what_a_start_would_change_and_writes_nothing(program, redis):
    until(program(EVERY_SECOND), "tick.enqueued")
    started = redis.zrange(keys.ENTRIES, 0, -1)
    assert started
    lines = "every(2, numbers.add, args=[2, 3]), every('1h', numbers.add, args=[1, 1], name='new')"
    dry = program(lines, "--dry-run")
    out, err = dry.communicate()

    assert (dry.returncode, err) == (0, "")
    assert "2 entries: 1 new, 1 changed, 0 gone, 0 same. Nothing was written.\n" in out
    assert "changed  jobs.numbers.add  times: every 1 s → every 2 s\n" in out
    assert redis.zrange(keys.ENTRIES, 0, -1) == started


@pytest.mark.parametrize("word", ["--check", "--dry-run"])
def test_neither_check_nor_dry_run_passes_over_a_mistake(program, word):
    wrong = program("every('2m', numbers.add), every('x', numbers.add, args=[2, 3])", word)
    out, err = wrong.communicate()

    assert (wrong.returncode, out, len(err.splitlines())) == (2, "", 2)


def test_a_dry_run_without_redis_says_so_in_one_line(program):
    away = program(EVERY_SECOND, "--dry-run", redis_url="redis://localhost:1/0")
    _, err = away.communicate()

    assert away.returncode == 1
    assert err.startswith("No Redis at redis://localhost:1/0 (")
    assert len(err.splitlines()) == 1


def test_without_redis_it_says_so_in_one_line(program):
    away = program(EVERY_SECOND, redis_url="redis://localhost:1/0")
    _, err = away.communicate()

    assert away.returncode == 1
    assert err.startswith("No Redis at redis://localhost:1/0 (")
    assert len(err.splitlines()) == 1
