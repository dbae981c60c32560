"""Commands: what a supervisor does about RQ's messages to its workers, and about odd ones."""

import json
import os
import signal
from contextlib import suppress
from itertools import pairwise

import pytest
from redis.exceptions import RedisError
from rq.command import (
    PUBSUB_CHANNEL_TEMPLATE,
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_job_command,
)

from jiffy import keys
from jiffy.worker.recovery import Handling
from jiffy.worker.slot import Slot
from jiffy.worker.supervisor import MOST_MESSAGES, Commands
from tests.support.newcomer import wait_until
from tests.support.worker_support import enqueue, rq_worker

CHANNEL = PUBSUB_CHANNEL_TEMPLATE % "worker-1"


def run_for_ever(board, token):
    """A child that has claimed two jobs and runs the first."""
    board.hold(batch=1, last=2)
    board.begin(1, limit_s=180)
    while True:
        signal.pause()


@pytest.fixture
def slot(redis):
    """A worker whose child runs the job default-0 and holds default-1."""
    worker = rq_worker(redis)
    worker.register_birth()
    slot = Slot(worker, run_for_ever)
    slot.start()
    wait_until(lambda: slot.board.running)
    for number, job_id in enumerate(enqueue(redis, 2), start=1):
        execution = f"{slot.execution_of(slot.board.running)[:-8]}{number:08x}"
        redis.hset(keys.held("worker-1"), f"{job_id}:{execution}", "default")
        redis.hset(keys.job(job_id), mapping={"status": "started", "worker_name": "worker-1"})
    yield slot
    slot.kill(Handling.REQUEUE, "the test is over")
    os.waitpid(slot.pid, 0)


@pytest.fixture
def heard(redis, slot):
    """Hears for a supervisor: `heard(fact)` until a message has made that true."""
    retired = []
    commands = Commands(redis, [slot], lambda slot, stays: retired.append(slot.name))

    def hear():
        with suppress(RedisError):  # a supervisor tries again, too
            commands.hear()

    def hear_until(fact=lambda: retired):
        wait_until(lambda: hear() or fact())

    hear_until(lambda: is_heard(redis))
    yield hear_until
    commands.close()


def is_heard(redis):
    return redis.pubsub_numsub(CHANNEL)[0][1] == 1


def test_a_job_that_runs_is_stopped(redis, slot, heard):
    send_stop_job_command(redis, "default-0", serializer="json")
    heard(lambda: slot.death)

    assert slot.death.was_stopped
    assert slot.death.execution == slot.execution_of(slot.board.running)


def test_what_runs_is_killed_by_command(redis, slot, heard):
    send_kill_horse_command(redis, "worker-1")
    heard(lambda: slot.death)

    assert (slot.death.handling, slot.death.was_stopped) == (Handling.FAIL, False)


def test_one_execution_is_stopped(redis, slot, heard):
    publish_stop(redis, "default-0", slot.execution_of(slot.board.running))
    heard(lambda: slot.death)

    assert slot.death.was_stopped


def publish_stop(redis, job_id, execution):
    message = {"command": "stop-execution", "job_id": job_id, "execution_id": execution}
    redis.publish(CHANNEL, json.dumps(message))


@pytest.mark.parametrize(
    ("job_id", "execution"), [("default-1", None), ("default-0", "0" * 32), ("default-9", None)]
)
def test_what_does_not_run_is_not_stopped(redis, slot, heard, job_id, execution):
    publish_stop(redis, job_id, execution or slot.execution_of(slot.board.running))
    send_shutdown_command(redis, "worker-1")
    heard()

    assert slot.death is None


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\xff", b"null", b"5", b"[]", b'"stop-job"', b"{}", b'{"command": null}',
        b"[" * 15_000, b'{"command": []}', b'{"command": "explode"}', b'{"command": "stop-job"}',
        b'{"command": "stop-job", "job_id": []}', b'{"command": "stop-job", "job_id": "\\udcff"}',
        b'{"command": "stop-job", "job_id": "default-0", "execution_id": 5}',
        b'{"command": "stop-execution"}', b'{"command": "stop", "job_id": "%s"}' % (b"x" * 10**6),
    ],
)  # fmt: skip
def test_an_odd_message_does_nothing_and_the_next_one_is_heard(redis, slot, heard, message):
    redis.publish(CHANNEL, message)
    send_shutdown_command(redis, "worker-1")
    heard()

    assert slot.death is None


def test_a_flood_of_messages_is_heard_a_little_at_a_time(redis, slot, heard, caplog):
    for _ in range(3 * MOST_MESSAGES):
        redis.publish(CHANNEL, "odd")
    send_shutdown_command(redis, "worker-1")
    counts = [0]
    heard(lambda: counts.append(caplog.text.count("command.unreadable")) or counts[-1] == 300)

    assert max(later - one for one, later in pairwise(counts)) <= MOST_MESSAGES


def test_commands_are_heard_again_after_their_connection_broke(redis, slot, heard):
    redis.client_kill_filter(_type="pubsub")
    wait_until(lambda: not is_heard(redis))
    heard(lambda: is_heard(redis))
    send_shutdown_command(redis, "worker-1")
    heard()
