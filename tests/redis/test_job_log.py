"""What a job's code logs is kept with the job, and the memory that it needed."""

import logging
import logging.config
import threading
import time
from contextlib import suppress

import pytest
from redis import Redis
from rq import get_current_job

from jiffy import clock, keys
from jiffy.control import read
from jiffy.producer.enqueue import enqueue

shop = logging.getLogger("shop")


def greet():
    shop.info("charging %s", "ada")
    shop.warning("slow: \x1b[31m %s", "\u202e")
    # As a call does, but past pytest's handlers, which can write no half of a character.
    shop.makeRecord("shop", logging.INFO, __file__, 1, "half \ud800", (), None)
    thread = threading.Thread(target=shop.error, args=("from a thread",))
    thread.start()
    thread.join()
    with suppress(TypeError):  # of pytest's handlers
        shop.info("%d", "not a number")
    shop.info("password=hunter2")
    shop.debug("is not logged")


class Broken:
    def __str__(self):
        raise ValueError("no words")

    __repr__ = __str__


class Endless:
    def __str__(self):
        shop.info("%s", self)
        return ""


def log_what_cannot_be_logged():
    logging.addLevelName(36, Broken())
    for name, level, message in ((b"raw", 20, Broken()), ("caf\udce9", 36, "odd names")):
        # As a call does, but past pytest's handlers.
        shop.makeRecord(name, level, __file__, 1, message, (), None)
    try:
        shop.makeRecord("shop", 20, __file__, 1, Endless(), (), None)
    except RecursionError:
        return "ended"


def fail():
    try:
        raise ValueError("no card")
    except ValueError:
        shop.exception("it broke")
        raise


def fail_at_first():
    shop.info("first attempt")
    raise ValueError("again")


def chatter(count):
    for number in range(count):
        shop.info("line %d", number)


def chatter_for_a_while(monkeypatch=None):
    """Return what is stored of its log while it runs."""
    shop.info("begun")
    before = clock.monotonic
    clock.monotonic = lambda: before() + 10
    try:
        shop.info("ten seconds later")
    finally:
        clock.monotonic = before
    job = get_current_job()
    return [line.text for line in read.job(job.connection, job.id).log.lines]


def configure():
    """As a project's own logging does as it is imported: our handler is gone."""
    root = {"level": "INFO", "handlers": []}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": root})
    shop.info("to no handler")


def hold(megabytes):
    held = bytearray(megabytes << 20)
    time.sleep(0.002)  # longer than what is not measured
    return len(held)


@pytest.fixture
def run(redis: Redis, work, caplog):
    caplog.set_level(logging.INFO)

    def run_it(function, *args, **options):
        job = enqueue.options(**options)(function, *args)
        work()
        return read.job(redis, job.id)

    return run_it


def texts(job):
    return [(line.level, line.text) for line in job.log.lines]


def test_lines_are_kept_with_level_time_and_logger(run, redis):
    job = run(greet)
    first = job.log.lines[0]

    assert texts(job) == [
        ("INFO", "charging ada"),
        ("WARNING", r"slow: \x1b[31m \u202e"),
        ("INFO", r"half \ud800"),
        ("ERROR", "from a thread"),
        ("INFO", "str that cannot be formatted: '%d'"),
        ("INFO", "password=***"),
    ]
    assert first.logger == "shop"
    assert abs((first.at - job.started).total_seconds()) < 60
    assert (job.log.left_out, job.state) == (0, "finished")
    assert 0 < redis.ttl(keys.job(job.id)) <= 500


def test_no_object_that_is_logged_fails_a_job_or_kills_its_worker(run):
    job = run(log_what_cannot_be_logged)

    assert (job.state, job.result) == ("finished", "ended")
    assert [(line.level, line.logger, line.text) for line in job.log.lines[:2]] == [
        ("INFO", "<bytes>", "Broken that cannot be formatted"),
        ("<Broken>", r"caf\udce9", "odd names"),
    ]


def test_a_failed_job_keeps_its_log_and_a_silent_one_stores_none(run, redis):
    failed, silent = run(fail), run(chatter, 0)

    assert failed.log.lines[0].text.startswith("it broke\nTraceback (most recent call last)")
    assert (failed.state, silent.state) == ("failed", "finished")
    assert not redis.hexists(keys.job(silent.id), keys.LOG_FIELD)


def test_a_job_that_is_retried_keeps_its_log(run):
    job = run(fail_at_first, retry=1)

    assert (job.state, texts(job)) == ("scheduled", [("INFO", "first attempt")])


def test_the_first_and_the_last_lines_are_kept_up_to_the_cap(run, environ):
    long = run(chatter, 2000)
    environ(JOBS_MODULES="jobs,tests", JOB_LOG_BYTES="500")
    short = run(chatter, 100)
    environ(JOBS_MODULES="jobs,tests", JOB_LOG_BYTES="0")
    none = run(chatter, 100)

    for job, count in ((long, 2000), (short, 100)):
        lines, left_out, head = job.log.lines, job.log.left_out, job.log.head
        assert len(lines) + left_out == count
        assert lines[head - 1].text == f"line {head - 1}"
        assert lines[head].text == f"line {head + left_out}"
        assert lines[-1].text == f"line {count - 1}"
    assert len(long.log.lines) == 500
    assert 4 <= len(short.log.lines) <= 12
    assert none.log.lines == ()


def test_the_log_of_a_running_job_is_seen(run):
    assert run(chatter_for_a_while).result == ["begun", "ten seconds later"]


def test_a_project_may_set_up_its_logging_as_it_likes(run):
    assert texts(run(configure)) == [("INFO", "to no handler")]


def test_a_job_carries_the_peak_of_its_process_and_not_that_of_the_one_before(run):
    large, small, quick = run(hold, 300), run(hold, 0), run(chatter, 0)

    assert large.peak_bytes > small.peak_bytes + (200 << 20)
    assert small.peak_bytes > 1 << 20
    assert quick.peak_bytes == 0 or quick.ran_s > 0.001


@pytest.mark.parametrize("odd", ["x", "{}", "[0,0]", "[1,2,[]]", '[0,0,[["a"]]]', "[-1,0,[]]"])
def test_an_odd_log_is_a_problem_that_is_named(redis, odd):
    redis.hset(keys.job("odd"), mapping={"status": "queued", keys.LOG_FIELD: odd})

    assert any("jiffy:log is not" in problem for problem in read.job(redis, "odd").problems)
