"""A bad job, or odd data, hurts only itself: workers, neighbours and the next jobs go on."""

import os
import signal
import subprocess

import pytest
from redis import Redis
from rq import Callback, Webhook
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.serializers import DefaultSerializer

from bench.proxy import longer
from jiffy import keys
from jiffy.dev import redis_server
from jiffy.producer.enqueue import Queue
from tests.jobs import fault as fault_jobs
from tests.jobs import worker as worker_jobs
from tests.support.ports import free_port
from tests.support.receiver import receiving
from tests.support.worker_processes import let_go_on, until_over, worker_names
from tests.support.worker_support import (
    WIP,
    depend,
    enqueue,
    job,
    queued,
    reason,
    said,
    status,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _all_jobs_of_tests(environ):
    environ(JOBS_MODULES="tests.jobs.worker,tests.jobs.fault")


def put(redis, func, *args, job_id, **options):
    return Queue("default", connection=redis).enqueue(func, args=args, job_id=job_id, **options)


def test_20000_dependents_far_from_redis_are_released_through_a_kill_and_nothing_waits(
    start_worker, tmp_path
):
    port = free_port()
    address = f"redis://127.0.0.1:{port}"
    socket = redis_server.start(tmp_path, keep=False, options=("--port", f"{port}"))
    try:
        with longer(address, 0.003) as far, Redis.from_url(socket) as redis:
            parent = put(redis, worker_jobs.nothing, job_id="parent")
            depend(redis, parent, 20_000)
            put(redis, worker_jobs.nothing, job_id="neighbour")
            worker = start_worker("-n", "2", REDIS_URL=far)
            until_over(worker, redis, "parent", "neighbour")
            worker.until(lambda: redis.zcard(f"{keys.RQ}deferred:default") < 15_000)
            os.kill(worker.children()[0], signal.SIGKILL)
            worker.until(lambda: redis.zcard(f"{keys.RQ}deferred:default") == 0)
            worker.until(lambda: redis.zcard(f"{keys.RQ}finished:default") > 2000)
            with redis.pipeline() as pipe:  # in one moment
                pipe.llen(keys.queue("default")).zcard(WIP)
                pipe.zcard(f"{keys.RQ}finished:default").zcard(f"{keys.RQ}failed:default")
                where = pipe.execute()

            assert sum(where) == 20_002
    finally:
        redis_server.stop(socket)


CONTAINER = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")


def is_root_on_linux():
    try:
        return subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not is_root_on_linux(), reason="starting a container needs root, on Linux")
def test_as_process_1_of_a_container_the_supervisor_reaps_what_jobs_leave(start_worker, redis):
    put(redis, fault_jobs.leave_a_process_behind, job_id="leaves")
    worker = start_worker("-n", "1", container=CONTAINER)
    until_over(worker, redis, "leaves")

    assert job(redis, "leaves").return_value() is True


def test_the_dependents_of_a_job_that_was_killed_are_released_by_a_child(start_worker, redis):
    parent = put(redis, worker_jobs.hold, "parent", job_id="parent", job_timeout=1)
    depend(redis, parent, 2000, allow_failure=True)
    worker = start_worker("-n", "2")
    worker.until(lambda: redis.zcard(f"{keys.RQ}finished:default") == 2000)

    assert reason(redis, "parent").startswith("exceeded its limit of 1 s")
    assert not worker.lines("worker.died")


def test_a_dependency_that_is_no_job_changes_nothing_of_the_other(start_worker, redis):
    for name in ("odd", "parent"):
        put(redis, worker_jobs.nothing, job_id=name)
    put(redis, worker_jobs.nothing, job_id="child", depends_on=["odd", "parent"])
    redis.lrem(keys.queue("default"), 0, "odd")
    redis.delete(keys.job("odd"))
    redis.set(keys.job("odd"), "odd")
    worker = start_worker()
    until_over(worker, redis, "parent")

    assert status(redis, "parent") == "finished"


@pytest.mark.parametrize("kind", [fault_jobs.KillsWhenRead, fault_jobs.HangsWhenRead])
def test_data_that_ends_its_reader_counts_against_its_own_job(start_worker, redis, kind):
    queue = Queue("default", connection=redis, serializer=DefaultSerializer)
    queue.enqueue(fault_jobs.take, args=(kind(),), job_id="bad", job_timeout=1)
    enqueue(redis, 3)
    worker = start_worker(SERIALIZERS="json,pickle")
    until_over(worker, redis, "bad", "default-0", "default-1", "default-2")

    assert status(redis, "bad") == "failed"
    assert [status(redis, f"default-{number}") for number in range(3)] == ["finished"] * 3
    assert len(worker.lines("worker.died")) <= 3


@pytest.mark.parametrize(
    ("func", "printed"),
    [(fault_jobs.fork_and_raise, ["the job went on"]), (fault_jobs.fork_and_come_back, [])],
)
def test_a_copy_that_a_job_has_forked_touches_nothing_of_ours(start_worker, redis, func, printed):
    put(redis, func, job_id="forks", on_failure=Callback(worker_jobs.note_failure))
    enqueue(redis, 2)
    worker = start_worker()
    until_over(worker, redis, "forks", "default-0", "default-1")

    assert (status(redis, "forks"), said(redis)) == ("finished", printed)
    assert not worker.lines("worker.died")


@pytest.mark.parametrize(
    ("func", "end"),
    [(fault_jobs.raise_what_forks, "failed"), (fault_jobs.leave_what_forks, "finished")],
)
def test_a_copy_that_is_made_once_its_job_has_returned_runs_none(start_worker, redis, func, end):
    put(redis, func, job_id="forks")
    names = [f"job-{number}" for number in range(10)]
    for name in names:
        put(redis, worker_jobs.say, name, job_id=name)
    worker = start_worker("-n", "1")
    until_over(worker, redis, "forks", *names)

    assert (status(redis, "forks"), said(redis)) == (end, names)


@pytest.mark.parametrize(
    "func",
    [
        fault_jobs.close_the_output,
        fault_jobs.fill_the_output,
        fault_jobs.block_signals,
        fault_jobs.lower_its_limits,
    ],
)
def test_the_next_job_of_the_process_is_limited_stopped_and_logged_as_ever(
    start_worker, redis, func
):
    put(redis, func, job_id="bad")
    put(redis, worker_jobs.hold, "next", job_id="next", job_timeout=1)
    worker = start_worker()
    until_over(worker, redis, "bad", "next")

    assert (status(redis, "bad"), status(redis, "next")) == ("finished", "failed")
    assert "limit" in reason(redis, "next") or "JobTimeoutException" in reason(redis, "next")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def ends_of(func, start_worker, redis):
    """Let one worker run the job "bad" and another one behind it; return their statuses."""
    put(redis, func, job_id="bad")
    put(redis, worker_jobs.say, "next", job_id="next")
    worker = start_worker("-n", "1")
    until_over(worker, redis, "bad", "next")
    return status(redis, "bad"), status(redis, "next")


def test_a_thread_that_holds_the_log_keeps_no_worker_from_its_work(start_worker, redis):
    assert ends_of(fault_jobs.hold_the_log, start_worker, redis) == ("finished", "finished")


@pytest.mark.parametrize("batch", [1, 10])
def test_a_job_that_selects_another_database_has_finished(start_worker, redis, batch):
    names = [f"job-{number}" for number in range(batch)]
    for name in names:
        put(redis, worker_jobs.say, name, job_id=name)
    assert ends_of(fault_jobs.select_another_database, start_worker, redis) == (
        "finished", "finished",
    )  # fmt: skip
    assert said(redis) == [*names, "next"]


def test_no_job_of_a_database_that_a_job_selects_is_run(start_worker, redis):
    path = redis.connection_pool.connection_kwargs["path"]
    with Redis(unix_socket_path=path, db=5) as other:
        put(other, worker_jobs.say, "theirs", job_id="theirs")
        ends_of(fault_jobs.select_another_database, start_worker, redis)

        assert said(redis) == ["next"]
        assert (queued(other), status(other, "theirs")) == (["theirs"], "queued")


def put_a_batch(redis, *words):
    """Quick jobs, of which the last one sends a command, and slower ones behind them."""
    names = [f"job-{number}" for number in range(40)]
    for name in names:
        put(redis, fault_jobs.say_and_send, name, job_id=name)
    put(redis, fault_jobs.say_and_send, "sends", *words, job_id="sends")
    for name in ("slower", "last"):
        put(redis, worker_jobs.quick_or_slow, name, 0.2, job_id=name, job_timeout=2)
    return [*names, "sends", "slower", "last"]


def test_a_job_that_leaves_a_transaction_open_has_no_neighbour_run_again(start_worker, redis):
    names = put_a_batch(redis, "MULTI")
    worker = start_worker("-n", "1")
    until_over(worker, redis, *names)

    assert said(redis) == names
    assert not worker.lines("worker.died")


def test_the_limit_of_a_job_counts_from_when_redis_knows_that_those_before_it_have_ended(
    start_worker, redis
):
    names = put_a_batch(redis, "CLIENT", "PAUSE", "8000", "ALL")
    worker = start_worker("-n", "1")
    until_over(worker, redis, *names)

    assert {status(redis, name) for name in names} == {"finished"}


def test_a_job_that_is_killed_while_its_large_outcome_is_sent_counts_as_a_crash(
    start_worker, redis
):
    def refusals():
        return redis.info("errorstats").get("errorstat_ERR", {"count": 0})["count"]

    [most] = redis.config_get("proto-max-bulk-len").values()
    redis.config_set("proto-max-bulk-len", 1 << 20)
    try:
        put(redis, worker_jobs.return_text, 2_000_000, job_id="bad")
        worker = start_worker("-n", "1", RESULT_MAX_BYTES="100000000")
        for _ in range(3):
            seen = refusals()
            worker.until(lambda: refusals() > seen)  # noqa: B023
            worker.kill_children()
        until_over(worker, redis, "bad")
    finally:
        redis.config_set("proto-max-bulk-len", most)

    assert "its worker died 3 times" in reason(redis, "bad")


def test_an_isolated_job_of_a_function_that_is_gone_ends_no_process(start_worker, redis):
    for name, data in {"gone": b'["tests.jobs.worker.gone", null, [], {}]', "odd": b"odd"}.items():
        put(redis, worker_jobs.nothing, job_id=name)
        redis.hset(keys.job(name), mapping={"data": data, keys.ISOLATE_FIELD: "1"})
    worker = start_worker("-n", "1")
    until_over(worker, redis, "gone", "odd")
    put(redis, worker_jobs.say, "next", job_id="next")
    until_over(worker, redis, "next")

    assert not worker.lines("worker.died")


def test_what_follows_a_killed_job_may_select_another_database(start_worker, redis):
    callback = Callback(fault_jobs.select_another_database)
    put(redis, worker_jobs.kill_itself, job_id="killed", on_failure=callback)
    put(redis, worker_jobs.say, "next", job_id="next")
    worker = start_worker("-n", "1")
    until_over(worker, redis, "killed", "next")
    worker.until(lambda: not redis.exists(keys.todo("default")))
    put(redis, worker_jobs.say, "later", job_id="later")
    until_over(worker, redis, "later")

    assert said(redis) == ["next", "later"]


def test_what_follows_a_job_waits_behind_no_other_one(start_worker, redis):
    with receiving() as receiver:
        hook = Webhook(receiver.address, "finished", method="POST")
        put(redis, worker_jobs.nothing, job_id="first", webhooks=[hook])
        put(redis, worker_jobs.wait_for, "next", job_id="next")
        worker = start_worker("-n", "1", WEBHOOK_HOSTS="127.0.0.1")
        worker.until(lambda: receiver.heard)
        let_go_on(redis, "next")
        until_over(worker, redis, "first", "next")

    assert [body["job_id"] for _, _, body in receiver.heard] == ["first"]
    assert not redis.exists(keys.todo("default"), keys.TODO_TRIES)


def test_a_job_whose_end_cannot_be_written_down_counts_as_a_crash(start_worker, redis):
    assert ends_of(fault_jobs.spoil_the_clock, start_worker, redis) == ("failed", "finished")
    assert "its worker died 3 times" in reason(redis, "bad")


@pytest.mark.parametrize("plan", ['{"queue"', '{"id":"bad"}', "5", "[" * 5000])
def test_what_is_no_outcome_counts_as_a_crash_of_its_job_alone(start_worker, redis, plan):
    put(redis, fault_jobs.spoil_all_outcomes, plan, job_id="bad")
    enqueue(redis, 3)
    worker = start_worker("-n", "1")
    until_over(worker, redis, "bad", *(f"default-{number}" for number in range(3)))

    assert "its worker died 3 times: it noted an outcome that cannot be read" in reason(
        redis, "bad"
    )
    assert [status(redis, f"default-{number}") for number in range(3)] == ["finished"] * 3
    assert not worker.lines("supervisor.failed")


def test_an_outcome_that_redis_refuses_fails_its_job_alone(start_worker, redis):
    names = [f"job-{number}" for number in range(20)]
    for name in names[:10]:
        put(redis, worker_jobs.say, name, job_id=name)
    put(redis, fault_jobs.spoil_its_outcome, job_id="bad")
    for name in names[10:]:
        put(redis, worker_jobs.say, name, job_id=name)
    worker = start_worker("-n", "1")
    until_over(worker, redis, "bad", *names)

    assert "Redis refuses its outcome: " in reason(redis, "bad")
    assert {status(redis, name) for name in names} == {"finished"}


@pytest.mark.parametrize("name", ["Interrupted", "Stopped"])
def test_a_job_that_raises_what_the_engine_raises_has_failed(start_worker, redis, name):
    put(redis, fault_jobs.raise_what_the_engine_raises, name, job_id="bad")
    worker = start_worker()
    until_over(worker, redis, "bad")

    assert reason(redis, "bad").endswith(f"{name}\n")
    assert not worker.lines("worker.died")


@pytest.mark.parametrize(
    ("func", "value"),
    [
        (fault_jobs.terminate_a_process, -15),
        (fault_jobs.use_a_pool, 6),
        (fault_jobs.tell_how_a_copy_ended, 3),
    ],
)
def test_processes_that_a_job_starts_behave_as_elsewhere(start_worker, redis, func, value):
    job = put(redis, func, job_id="starts", job_timeout=20)
    worker = start_worker()
    until_over(worker, redis, "starts")

    assert job.return_value() == value


def test_a_thread_that_ends_the_process_between_two_jobs_ends_no_worker(start_worker, redis):
    put(redis, fault_jobs.end_the_process_between_jobs, job_id="leaves")
    enqueue(redis, 2)
    worker = start_worker()
    until_over(worker, redis, "leaves", "default-0", "default-1")

    assert status(redis, "leaves") == "finished"
    assert "exit code 0" in worker.lines("worker.died")[0]


def test_odd_values_keep_no_worker_from_its_work(start_worker, redis):
    redis.rpush(keys.queue("default"), b"\xff\xfe")
    redis.hset(keys.RQ.encode() + b"job:\xff\xfe", mapping={"data": b"\xff", "status": b"\xff"})
    for name in ("counted", "list"):
        put(redis, worker_jobs.hold, name, job_id=name)
    redis.hset(keys.job("counted"), "jiffy:crashes", "x")
    redis.set(keys.held("another"), "odd")
    redis.set(f"{keys.RQ}workers:low", "odd")
    redis.zadd(keys.LEASES, {"another": 1, b"\xff": 1})
    redis.hset(keys.worker("another"), "queues", "q," * 1_000_000)
    worker = start_worker("-n", "3")
    worker.until(lambda: "counted begun" in said(redis))
    for name in worker_names(redis):
        redis.publish(PUBSUB_CHANNEL_TEMPLATE % name, "[" * 15_000)
    os.kill(worker.children()[0], signal.SIGKILL)
    enqueue(redis, 5, queue="high")
    until_over(worker, redis, *(f"high-{number}" for number in range(5)), queue="high")
    worker.until(lambda: not redis.exists(keys.held("another")))

    assert worker.process.poll() is None
    assert not worker.lines("supervisor.failed")


def test_on_failure_is_called_for_a_job_that_took_its_process_with_it(start_worker, redis):
    put(
        redis, worker_jobs.hold, "held", job_id="killed", job_timeout=1,
        on_failure=Callback(worker_jobs.note_failure),
    )  # fmt: skip
    worker = start_worker()
    worker.until(
        lambda: any("failure of killed: AbandonedJobError" in text for text in said(redis))
    )

    assert (status(redis, "killed"), queued(redis)) == ("failed", [])
