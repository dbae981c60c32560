"""Redis goes away, or is full, and comes back: what has finished stays finished."""

import os
import signal
import subprocess
import sys

import pytest
from redis import Redis
from rq.command import send_shutdown_command

from jiffy.dev import redis_server
from tests.jobs import worker as worker_jobs
from tests.support.cutting import Cutter
from tests.support.newcomer import CHECKOUT, wait_until
from tests.support.worker_processes import begin, let_go_on, until_over, worker_names
from tests.support.worker_support import enqueue, job, registered, status

pytestmark = pytest.mark.slow


@pytest.fixture
def own_redis(tmp_path):
    """A Redis that keeps its data, to be stopped and started: a function that does so."""
    home = tmp_path / "redis"
    home.mkdir()
    addresses = [redis_server.start(home, keep=True)]

    def restart(meanwhile=lambda: None):
        redis_server.stop(addresses[0])
        meanwhile()
        redis_server.start(home, keep=True)

    yield addresses[0], restart
    redis_server.stop(addresses[0])


def test_a_job_that_ends_while_redis_is_away_has_finished_once(start_worker, own_redis, tmp_path):
    address, restart = own_redis
    gate, ledger = tmp_path / "gate", tmp_path / "ledger"
    with Redis.from_url(address) as redis:
        enqueue(redis, 1, worker_jobs.wait_for_file, str(gate), str(ledger))
        enqueue(redis, 5, worker_jobs.note_in_file, str(ledger), queue="low")
    worker = start_worker("-n", "2", REDIS_URL=address)
    worker.until(lambda: ledger.exists() and "begun" in ledger.read_text())

    def end_the_job():
        worker.until_logged("redis.away")
        gate.touch()
        worker.until(lambda: "ended" in ledger.read_text())

    restart(end_the_job)
    with Redis.from_url(address) as redis:
        worker.until(lambda: status(redis) == "finished")
        worker.until(lambda: len(registered(redis, "finished", "low")) == 5)

        assert job(redis).return_value() == "done"
        assert registered(redis, "failed") == []
    assert ledger.read_text().count("begun") == 1
    assert (len(worker.lines("worker.died")), worker.log.count("Traceback")) == (0, 0)


def test_a_worker_says_once_that_redis_is_away_and_once_that_it_is_back(
    start_worker, own_redis, tmp_path
):
    address, restart = own_redis
    worker = start_worker("-n", "1", REDIS_URL=address)
    with Redis.from_url(address) as redis:
        worker.until(lambda: redis.info("clients")["blocked_clients"])
    restart(lambda: worker.until_logged("redis.away"))
    worker.until_logged("redis.back")
    with Redis.from_url(address) as redis:
        enqueue(redis)
        worker.until(lambda: status(redis) == "finished")

    assert (len(worker.lines("redis.away")), len(worker.lines("redis.back"))) == (1, 1)


def test_a_line_that_falls_silent_is_given_up_before_its_lease_is_over(start_worker, own_redis):
    address, _ = own_redis
    with Cutter(address) as line, Redis.from_url(address) as redis:
        worker = start_worker("-n", "1", REDIS_URL=line.url)
        worker.until(lambda: redis.info("clients")["blocked_clients"])
        for count in range(1, 4):  # the first to be lost may be what is waited for longer
            line.silence()
            worker.until(lambda: len(worker.lines("redis.back")) == count)  # noqa: B023
            if "no answer in 3 s" in worker.log:
                break

    assert "no answer in 3 s" in worker.log


def test_commands_are_heard_again_after_their_line_fell_silent(start_worker, own_redis):
    address, _ = own_redis
    with Cutter(address) as line, Redis.from_url(address) as redis:
        worker = start_worker("-n", "1", REDIS_URL=line.url)
        worker.until(lambda: redis.client_list("pubsub") and worker_names(redis))
        line.silence()
        [name] = worker_names(redis)
        worker.until(lambda: send_shutdown_command(redis, name) or worker.lines("command.received"))


def test_a_worker_that_is_stopped_while_redis_is_away_ends_within_its_grace(
    start_worker, own_redis, tmp_path
):
    address, restart = own_redis
    gate, ledger = tmp_path / "gate", tmp_path / "ledger"
    with Redis.from_url(address) as redis:
        enqueue(redis, 1, worker_jobs.wait_for_file, str(gate), str(ledger))
    worker = start_worker("-n", "2", REDIS_URL=address, GRACE_S="3")
    worker.until(lambda: ledger.exists() and "begun" in ledger.read_text())
    codes = []

    def end_the_job_and_stop():
        worker.until_logged("redis.away")
        gate.touch()
        worker.until(lambda: "ended" in ledger.read_text())
        worker.send(signal.SIGTERM)
        codes.append(worker.wait())

    restart(end_the_job_and_stop)

    assert codes == [0]
    assert worker.log.rstrip().splitlines()[-1].split()[2] == "worker.stopped"


def test_a_worker_that_starts_while_redis_is_full_drains_it_and_is_shown_then(start_worker, redis):
    enqueue(redis, 3)
    redis.config_set("maxmemory", 1)
    try:
        worker = start_worker()
        worker.until(lambda: len(registered(redis, "finished")) == 3)
    finally:
        redis.config_set("maxmemory", 0)
    worker.until(lambda: worker_names(redis))

    assert not worker.lines("worker.died")


SIMPLE_WORKER = """
import jiffy
from jiffy import redis_io
jiffy.SimpleWorker(["default"], connection=redis_io.connect("test")).work()
"""


def test_a_second_signal_ends_a_simple_worker_that_waits_for_redis(own_redis):
    address, restart = own_redis
    process = subprocess.Popen(
        [sys.executable, "-c", SIMPLE_WORKER],
        cwd=CHECKOUT, env=os.environ | {"REDIS_URL": address}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with Redis.from_url(address) as redis:
        wait_until(lambda: redis.info("clients")["blocked_clients"])

    def signal_until_it_ends():
        while "redis.away" not in process.stdout.readline():
            pass
        wait_until(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None)

    with process:
        try:
            restart(signal_until_it_ends)
        finally:
            process.kill()

    assert process.returncode == -signal.SIGTERM


def test_a_worker_whose_wait_redis_ends_goes_on(start_worker, redis):
    worker = start_worker("-n", "2")
    worker.until(lambda: len(sleeping(redis)) == 2)
    before = worker.children()
    for client in sleeping(redis):  # as when it becomes a replica
        redis.client_unblock(client["id"], error=True)
    worker.until(lambda: len(sleeping(redis)) == 2)
    enqueue(redis)
    worker.until(lambda: status(redis) == "finished")

    assert (worker.children(), worker.log.count("Traceback")) == (before, 0)


def sleeping(redis):
    return [client for client in redis.client_list() if "b" in client["flags"]]


def test_a_job_whose_end_a_failover_has_lost_runs_again_though_its_worker_is_idle(
    start_worker, redis
):
    enqueue(redis, 1, worker_jobs.wait_for, "a")
    worker = start_worker("-n", "1", "default")
    begin(worker, redis, "a")
    before = {key: redis.dump(key) for key in redis.keys("*")}
    let_go_on(redis, "a")
    until_over(worker, redis, "default-0")
    # As on a replica that had not heard of the end.
    with redis.pipeline() as pipe:
        pipe.flushall()
        for key, dumped in before.items():
            pipe.restore(key, 0, dumped)
        pipe.execute()
    begin(worker, redis, "a", count=2)
    let_go_on(redis, "a")
    until_over(worker, redis, "default-0")

    assert status(redis) == "finished"
