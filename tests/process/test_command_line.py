"""`jiffy enqueue …` as it is typed: what it prints, and its exit code."""

import os
import pty
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from jiffy import SimpleWorker, keys
from jiffy.producer.enqueue import Job
from tests.support.newcomer import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("redis")


def start(*words, **options):
    command = [sys.executable, *words]
    return subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def enqueue(command_line):
    """Type `jiffy enqueue` and the words; returns its exit code, output and errors."""
    return partial(command_line, "enqueue")


@pytest.fixture
def run_what_is_queued(redis, work):
    """Once a job is queued, run it."""

    def run():
        wait_until(lambda: redis.keys(f"{keys.RQ}queue:*"))
        work()

    return run


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["jobs.image.resize", "photo.jpg", "200"],
            "No function 'jobs.image.resize'. Did you mean 'jobs.images.resize'?",
        ),
        (
            ["jobs.images.resize", "photo.jpg", "widht=200"],
            "resize() has no argument 'widht' (did you mean 'width'?).",
        ),
        (["jobs.images.resize"], "resize() needs the argument 'path'."),
        (["jobs.numbers.add", "2", "x"], "jobs.numbers.add: y: expected a number, got 'x'."),
        (["os.system", "true"], "'os.system' is not under jobs. Move it there, or add its module"),
        (["jobs.numbers.add", "--each", "no.txt", "3"], "Invalid value for '--each': 'no.txt': No"),
        (["jobs.numbers.add", "2", "3", "--at", "noon"], "--at is 'noon'; it must be a time with"),
        (["jobs.numbers.add", "2", "3", "--unique-until", "x"], "--unique-until is 'x'; it must"),
        (["jobs.numbers.add", "2", "3", "--in", "soon"], "--in is 'soon'; it must be 0 or more"),
        (["jobs.numbers.add", "2", "3", "--timeout", "-2"], "--timeout is '-2'; it must be"),
        (["jobs.numbers.add", "2", "3", "--retry", "0"], "--retry is 0; it must be "),
        (
            ["jobs.numbers.add", "2", "3", "--in", "5m", "--at", "2999-01-31T06:00:00Z"],
            "--at is '2999-01-31T06:00:00Z'; it must be given without --in.",
        ),
        ([], "Missing argument 'FUNCTION'. See jiffy enqueue --help."),
        (["jobs.numbers.add", "--quue", "low"], "No option '--quue' (did you mean '--queue'?). "),
        (["jobs.numbers.add", "2", "3", "--retry", "x"], "Invalid value for '--retry': 'x' is not"),
        (["jobs"], "No function 'jobs'. Write it as module.name."),
        (
            ["jobs.numbers.add", "2", "3", "--pause", "2s"],
            "--pause is '2s'; it must be used to",
        ),
        (["jobs.numbers.add", "2", "3", "--id", "a b"], "--id is 'a b'; it must be letters"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(enqueue, words, line, redis):
    code, output, errors = enqueue(*words)

    assert (code, output) == (2, "")
    assert errors.startswith(line)
    assert errors.count("\n") == 1
    assert redis.keys() == []


@pytest.mark.parametrize(
    ("values", "ends_with", "line"),
    [
        (
            {"REDIS_URL": "redis://127.0.0.1:1/0"},
            1,
            "No Redis at redis://127.0.0.1:1/0 (connection refused). "
            "Run 'python -m jiffy dev' or set REDIS_URL.",
        ),
        ({"REDIS_URL": "localhost"}, 2, "REDIS_URL is 'localhost'; it must be a redis://, "),
        ({"REDIS_URL": None, "DYNO": "run.1"}, 2, "REDIS_URL is not set. Production needs a Redis"),
    ],
)
def test_no_redis_is_one_line_and_an_exit_code(enqueue, environ, values, ends_with, line):
    environ(**values)
    code, output, errors = enqueue("jobs.numbers.add", "2", "3")

    assert (code, output) == (ends_with, "")
    assert errors.startswith(line)
    assert errors.count("\n") == 1


def test_the_jobs_id_its_queue_and_the_time_it_took_are_printed(enqueue, redis):
    code, output, _ = enqueue("jobs.numbers.add", "2", "3", "--queue", "low", "--id", "sum-1")

    assert code == 0
    assert re.fullmatch(r"sum-1 on queue low, dispatched in \d+\.\d ms\n", output)
    assert redis.lrange(keys.queue("low"), 0, -1) == [b"sum-1"]


def test_words_become_the_types_of_the_signature(enqueue, redis):
    enqueue("jobs.numbers.add", "-2", "y=0.5", "--id", "sum-1")
    job = Job.fetch("sum-1", connection=redis)

    assert (job.args, job.kwargs) == ([-2, 0.5], {})


def test_options_become_those_of_the_job(enqueue, redis):
    enqueue("jobs.numbers.add", "2", "3", "--timeout", "2m", "--retry", "3", "--id", "sum-1")
    job = Job.fetch("sum-1", connection=redis)

    assert (job.timeout, job.retries_left, job.retry_intervals) == (120, 3, [10, 20, 40])


def test_no_limit_and_not_kept_are_written_as_in_python(enqueue, redis):
    words = ("--timeout", "-1", "--result-ttl", "0", "--failure-ttl", "-1", "--id", "sum-1")
    enqueue("jobs.numbers.add", "2", "3", *words)
    job = Job.fetch("sum-1", connection=redis)

    assert (job.timeout, job.result_ttl, job.failure_ttl) == (-1, 0, -1)


@pytest.mark.parametrize(("pause", "intervals"), [("2s", [2, 4, 8]), ("0", [0, 0, 0])])
def test_a_pause_between_tries_and_an_end_to_the_waiting_are_options_too(
    enqueue, pause, intervals, redis
):
    words = ("--retry", "3", "--pause", pause, "--expires", "10m", "--id", "sum-1")
    enqueue("jobs.numbers.add", "2", "3", *words)
    job = Job.fetch("sum-1", connection=redis)

    assert (job.retries_left, job.retry_intervals) == (3, intervals)
    assert redis.hget(keys.job("sum-1"), "jiffy:expires") == b"600"


def test_a_job_for_later_waits(enqueue, redis):
    enqueue("jobs.numbers.add", "2", "3", "--in", "5m", "--id", "sum-1")

    assert redis.zscore(f"{keys.RQ}scheduled:default", "sum-1")
    assert redis.keys(f"{keys.RQ}queue:*") == []


def test_an_id_that_is_taken_is_one_line_and_exit_code_2(enqueue):
    enqueue("jobs.numbers.add", "2", "3", "--id", "sum-1")
    code, _, errors = enqueue("jobs.numbers.add", "4", "5", "--id", "sum-1")

    assert code == 2
    assert errors == "There is already a job with the id 'sum-1'. Choose another id, or none.\n"


def test_each_line_of_a_file_becomes_a_job_and_typed_again_none_is_doubled(
    enqueue, redis, tmp_path
):
    (tmp_path / "numbers.txt").write_text("\ufeff1\n2\n\n3\n")
    words = ["jobs.numbers.add", "--each", tmp_path / "numbers.txt", "y=5", "--id", "sum"]
    first, again = enqueue(*words), enqueue(*words, "--queue", "low")

    assert re.fullmatch(r"3 jobs on queue default in [\d.]+ m?s\n", first[1])
    assert again[1].endswith("; 3 of them existed already\n")
    assert redis.lrange(keys.queue("default"), 0, -1) == [b"sum-1", b"sum-2", b"sum-3"]
    assert (Job.fetch("sum-3", connection=redis).args, redis.exists(keys.queue("low"))) == (
        [3, 5],
        0,
    )


def test_each_line_of_the_input_becomes_a_job(redis):
    typed = start("enqueue.py", "jobs.numbers.add", "--each", "-", "5", stdin=subprocess.PIPE)
    output, errors = typed.communicate("1\nx=y\n")

    assert (typed.returncode, output) == (2, "")
    assert errors == (
        "Call 2: jobs.numbers.add: x: expected a number, got 'x=y'. Enqueued before it: 1.\n"
    )
    assert redis.llen(keys.queue("default")) == 1


def test_wait_shows_the_result(run_what_is_queued):
    typed = start("enqueue.py", "jobs.numbers.add", "2", "3", "--wait")
    run_what_is_queued()
    output, errors = typed.communicate()

    assert typed.returncode == 0
    assert output.splitlines()[1:] == ["5"]
    assert errors.endswith("100% done\n")


def test_wait_for_a_job_that_fails_shows_the_last_lines_of_its_traceback(run_what_is_queued):
    typed = start("enqueue.py", "jobs.images.resize", "samples/no-such-photo.jpg", "200", "--wait")
    run_what_is_queued()
    _, errors = typed.communicate()

    assert typed.returncode == 1
    assert errors.rstrip().splitlines()[-1].startswith("FileNotFoundError: ")
    assert any(line.startswith('  File "') for line in errors.splitlines())
    assert "no-such-photo.jpg" in errors
    assert len(errors.splitlines()) <= 10


@pytest.mark.parametrize(("kept", "code"), [((), 1), (("--result-ttl", "0"), 0)])
def test_wait_for_a_job_that_is_deleted_does_not_say_that_it_is_done(redis, kept, code):
    words = ("jobs.numbers.add", "2", "3", "--id", "sum-1", "--wait", *kept)
    typed = start("enqueue.py", *words)
    wait_until(lambda: redis.exists(keys.job("sum-1")))
    Job.fetch("sum-1", connection=redis).delete()
    _, errors = typed.communicate()

    gone = "The job is gone: it was deleted, or its result was kept no longer.\n"
    assert (typed.returncode, errors.endswith(gone)) == (code, code == 1)
    assert ("done" in errors) == (code == 0)


@pytest.mark.parametrize("status", ["rate_limited", "started"])
def test_wait_says_that_no_workers_run_whatever_the_job_is_said_to_do(redis, work, status):
    typed = start("enqueue.py", "jobs.numbers.add", "2", "3", "--id", "sum-1", "--wait")
    assert "No workers are running." in typed.stderr.readline()
    redis.hset(keys.job("sum-1"), "status", status)  # as if the one that claimed it had died
    redis.set(keys.SUSPENDED, 1)
    said = typed.stderr.readline()
    redis.delete(keys.SUSPENDED)
    redis.hset(keys.job("sum-1"), "status", "queued")
    work("default")

    assert "All workers are suspended." in said
    assert typed.communicate()[0].endswith("5\n")


def test_wait_says_why_no_worker_claims_the_job_and_goes_on(redis, work):
    SimpleWorker(["default"], connection=redis).register_birth()
    typed = start("enqueue.py", "jobs.numbers.add", "2", "3", "--queue", "low", "--wait")
    said = typed.stderr.readline()
    work("low")
    output, errors = typed.communicate()

    assert said == (
        "No worker listens to queue “low”. Start one, or check the name: "
        "`python -m jiffy worker low`. Still waiting.\n"
    )
    assert output.splitlines()[1:] == ["5"]
    assert "listens" not in errors


def test_wait_at_a_terminal_shows_a_bar(run_what_is_queued):
    ours, theirs = pty.openpty()
    typed = subprocess.Popen(
        [sys.executable, "enqueue.py", "jobs.numbers.add", "2", "3", "--wait"],
        cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    run_what_is_queued()
    typed.wait()
    drawn = os.read(ours, 65536).decode()
    os.close(ours)

    assert re.search(r"\[-+\] +0% +waiting", drawn)
    assert re.search(r"\[#+\] +100% +done", drawn)


def test_ctrl_c_while_waiting_leaves_the_job_alone(redis):
    typed = start("enqueue.py", "jobs.numbers.add", "2", "3", "--id", "sum-1", "--wait")
    assert typed.stdout.readline().startswith("sum-1")
    typed.send_signal(signal.SIGINT)
    _, errors = typed.communicate()

    assert typed.returncode == 130
    assert errors.endswith("\nStopped waiting. Job sum-1 goes on.\n")
    assert redis.lrange(keys.queue("default"), 0, -1) == [b"sum-1"]


def test_with_closed_standard_streams_jobs_are_enqueued(redis, work):
    """A connection to Redis that is opened in the place of one would be written to."""
    typed = f"{sys.executable} enqueue.py jobs.numbers.add 2"
    for line in (f"{typed} 3 <&- >&- 2>&-", f"seq 2 | {typed} --each - 2>&-"):
        subprocess.run(line, shell=True, cwd=CHECKOUT, check=True)

    assert work() == 3
