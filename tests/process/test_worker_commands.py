"""What RQ's commands do to a worker, and `rq suspend`."""

import pytest
from rq import Callback
from rq.command import (
    PUBSUB_CHANNEL_TEMPLATE,
    send_command,
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)
from rq.suspension import resume, suspend

from jiffy import keys
from tests.jobs import worker as worker_jobs
from tests.support.worker_processes import begin, let_go_on, until_over, until_said, worker_names
from tests.support.worker_support import enqueue, job, queued, reason, said, status

pytestmark = pytest.mark.slow


@pytest.fixture
def worker(start_worker, redis):
    """A worker that runs a job, with another behind it."""
    stopped = Callback(worker_jobs.note_stopped)
    enqueue(redis, 1, worker_jobs.wait_for, "a", on_stopped=stopped)
    enqueue(redis, 1, worker_jobs.say, "next", queue="low")
    worker = start_worker()
    begin(worker, redis, "a")
    return worker


def test_a_job_is_stopped_by_command_and_its_callback_is_called(worker, redis):
    send_stop_job_command(redis, "default-0", serializer=job(redis).serializer)
    until_said(worker, redis, "stopped default-0")
    until_said(worker, redis, "next")

    assert status(redis) == "stopped"
    assert reason(redis) == "Job stopped by user, work-horse terminated."


def test_an_execution_is_stopped_by_command_and_no_other_one_of_the_job(worker, redis):
    (execution,) = job(redis).get_executions()
    for execution_id in ("an-earlier-one", execution.id):
        redis.hset(f"{keys.RQ}execution:default-0:{execution_id}", mapping=execution.serialize())
        send_stop_execution_command(redis, "default-0", execution_id)
        worker.until_logged("command.received")
    until_over(worker, redis, "default-0")

    assert status(redis) == "stopped"
    assert len(worker.lines("command.ignored")) == 1


def beginnings(redis):
    """Where two jobs began, and when."""
    jobs = [job(redis, f"default-{number}") for number in range(2)]
    return [(ran.worker_name, ran.started_at) for ran in jobs]


def test_jobs_that_were_stopped_say_where_and_when_they_began(start_worker, redis):
    enqueue(redis, 2, worker_jobs.wait_for, "a")
    worker = start_worker("-n", "2")
    begin(worker, redis, "a", count=2)
    before = beginnings(redis)
    for number in range(2):
        send_stop_job_command(redis, f"default-{number}", serializer=job(redis).serializer)
    until_over(worker, redis, "default-0", "default-1")

    assert len({name for name, _ in before}) == 2
    assert beginnings(redis) == before


def test_what_runs_is_killed_by_command_and_the_worker_goes_on(worker, redis):
    send_kill_horse_command(redis, worker_names(redis)[0])
    until_over(worker, redis, "default-0")
    until_said(worker, redis, "next")

    assert reason(redis) == "killed by the command kill-horse"


def until_obeyed(worker, redis):
    """Wait until a worker has carried out its commands: it reads one after the other."""
    redis.publish(PUBSUB_CHANNEL_TEMPLATE % worker_names(redis)[0], "the end")
    worker.until_logged("command.unreadable")


def test_a_worker_is_shut_down_by_command_after_its_job(worker, redis):
    send_shutdown_command(redis, worker_names(redis)[0])
    until_obeyed(worker, redis)
    let_go_on(redis, "a")

    assert worker.wait() == 0
    assert (status(redis), queued(redis, "low")) == ("finished", ["low-0"])


def test_one_of_two_workers_is_shut_down_and_the_other_works_on(start_worker, redis):
    worker = start_worker("-n", "2")
    worker.until(lambda: len(worker_names(redis)) == len(worker.children()) == 2)
    send_shutdown_command(redis, worker_names(redis)[0])
    worker.until(lambda: len(worker.children()) == 1)
    enqueue(redis)
    until_over(worker, redis, "default-0")

    assert worker.process.poll() is None


def test_a_quiet_worker_finishes_its_job_and_stays_until_it_is_resumed(worker, redis):
    name = worker_names(redis)[0]
    send_command(redis, name, "quiet")
    until_obeyed(worker, redis)
    let_go_on(redis, "a")
    worker.until(lambda: not worker.children())
    before = status(redis), queued(redis, "low")
    worker.until(lambda: redis.hget(keys.worker(name), keys.QUIET_FIELD) == b"yes")
    send_command(redis, name, "resume")
    until_said(worker, redis, "next")

    assert before == ("finished", ["low-0"])
    worker.until(lambda: int(redis.hget(keys.worker(name), keys.MEMORY_FIELD) or 0) > 1 << 20)


NO_COMMANDS = [
    b"", b"\xff", b"null", b"5", b"[]", b'"stop-job"', b"{}", b'{"command": null}', b"[" * 15_000,
    b'{"command": 5}', b'{"command": []}', b'{"command": "dance"}', b'{"command": "stop-job"}',
    b'{"command": "stop-job", "job_id": []}', b'{"command": "stop-job", "job_id": "\\udcff"}',
    b'{"command": "stop-job", "job_id": "default-0", "execution_id": 5}',
    b'{"command": "stop-job", "job_id": "low-0"}', b'{"command": "stop-execution"}',
    b'{"command": "stop", "job_id": "%s"}' % (b"x" * 10**6),
    b'{"command": "stop-job", "job_id": "\\ud800"}',
    b"[%s[]]" % (b"[]," * 10**6), *[b"a flood"] * 1000,
]  # fmt: skip


def test_what_is_no_command_is_passed_over(worker, redis):
    [name] = worker_names(redis)
    for data in NO_COMMANDS:
        redis.publish(PUBSUB_CHANNEL_TEMPLATE % name, data)
    send_stop_job_command(redis, "default-0", serializer=job(redis).serializer)
    until_said(worker, redis, "next")

    assert status(redis) == "stopped"
    assert 0 < len(worker.lines("command.")) < 500  # ten a second


def test_commands_are_heard_again_after_their_connection_broke(worker, redis):
    [name] = worker_names(redis)
    [before] = redis.client_list(_type="pubsub")
    redis.client_kill_filter(_type="pubsub")
    worker.until(lambda: before["id"] not in {one["id"] for one in redis.client_list("pubsub")})
    worker.until(lambda: redis.client_list("pubsub"))
    send_shutdown_command(redis, name)
    until_obeyed(worker, redis)
    let_go_on(redis, "a")

    assert worker.wait() == 0


def test_suspended_workers_finish_what_runs_and_begin_nothing_until_they_are_resumed(worker, redis):
    suspend(redis)
    let_go_on(redis, "a")
    name = worker_names(redis)[0]
    worker.until(lambda: redis.hget(keys.worker(name), "state") == b"suspended")
    before = said(redis)
    resume(redis)
    until_said(worker, redis, "next")

    assert before == ["a begun", "a ended"]


def test_a_worker_needs_one_connection_for_each_child_and_two_more(start_worker, redis):
    before = {client["id"] for client in redis.client_list()}
    worker = start_worker("-n", "4")
    enqueue(redis, 20, worker_jobs.add, 2, 3)
    enqueue(redis, 4, worker_jobs.last, 1, queue="low")
    until_over(worker, redis, *(f"low-{number}" for number in range(4)), queue="low")
    new = {client["id"] for client in redis.client_list()} - before

    assert 1 + 4 <= len(new) <= 2 + 4
