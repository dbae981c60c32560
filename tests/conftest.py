"""What all tests share: a private Redis per test process, flushed before each test."""

import os
import signal
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
import rq_scheduler

from jiffy import SimpleWorker, cli, keys, log, redis_io
from jiffy.dev import redis_server
from jiffy.producer.enqueue import DEFAULT_QUEUES
from jiffy.settings import Settings, settings

pytest_plugins = ["jiffy.testing"]


def pytest_configure():
    """Not as this is imported: workers that run jobs of the tests import it, too."""
    # Whatever the user has set, tests never see, and never reach a Redis of theirs.
    for name in {setting.name.upper() for setting in fields(Settings)} - {"REDIS_SERVER"}:
        os.environ.pop(name, None)
    # rq-scheduler knows no RQ_KEY_PREFIX: where one is set, its own class needs our keys.
    rq_scheduler.Scheduler.scheduled_jobs_key = keys.ENTRIES
    rq_scheduler.Scheduler.scheduler_lock_key = keys.STOCK_LOCK
    # No test fails by chance, or on a busy machine.  Other examples: --hypothesis-profile=default
    import hypothesis

    too_slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile(
        "the same everywhere", deadline=None, derandomize=True, suppress_health_check=too_slow
    )
    hypothesis.settings.load_profile("the same everywhere")
    # A shell that runs the tests in the background, or nohup, has them and all that they start
    # ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def redis_address():
    """The address of a Redis that only this test process uses; it is also in REDIS_URL."""
    settings.cache_clear()
    # The same server for the programs that tests start in other folders.
    os.environ["REDIS_SERVER"] = str(redis_server.program())
    with tempfile.TemporaryDirectory(prefix="jiffy-test-") as home:
        address = redis_server.start(Path(home), keep=False)
        os.environ["REDIS_URL"] = address
        settings.cache_clear()
        yield address
        redis_server.stop(address)


@pytest.fixture(autouse=True)
def as_it_was():
    """What RQ's workers leave behind in a process that runs them: a level, handlers, signals."""
    level, handlers = log.logger.level, list(log.logger.handlers)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    log.logger.setLevel(level)
    log.logger.handlers[:] = handlers
    for number, handler in signals.items():
        signal.signal(number, handler)


@pytest.fixture
def redis(redis_address):
    """A client of the private Redis, which is empty."""
    client = redis_io.connect("test")
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def environ():
    """Set environment variables for one test: `environ(WORKERS="3")`; None takes one away."""
    before = dict(os.environ)

    def change(**values):
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        settings.cache_clear()

    yield change
    os.environ.clear()
    os.environ.update(before)
    settings.cache_clear()


@pytest.fixture
def command_line(capsys):
    """Type a command in this process, `command_line("scheduler", "list")`; returns its exit code,
    its output and its errors."""

    def run(*words):
        capsys.readouterr()
        redis_io.shared.cache_clear()
        try:
            code = cli.run(cli.command, [str(word) for word in words], prog="jiffy")
        except SystemExit as end:
            code = end.code
        redis_io.shared.cache_clear()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def work(redis):
    """Run all queued jobs in this process: `work()`; returns how many ran."""

    def run(*queues):
        worker = SimpleWorker(list(queues or DEFAULT_QUEUES), connection=redis)
        worker.work(burst=True, logging_level="WARNING")
        counts = redis.hmget(worker.key, "successful_job_count", "failed_job_count")
        return sum(int(count or 0) for count in counts)

    return run
