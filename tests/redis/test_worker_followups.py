"""Follow-ups: callbacks of killed jobs, and webhooks, are done at least once, under limits."""

import os
import socket

import pytest
from rq import Callback, Repeat, Retry, Webhook
from rq.suspension import suspend

from jiffy import keys, outgoing
from jiffy.worker import followups
from jiffy.worker.process import CHECK_BOARD
from jiffy.worker.recovery import Handling
from jiffy.worker.shared_memory import Board
from tests.jobs import worker as worker_jobs
from tests.support.receiver import flooding, receiving
from tests.support.worker_support import (
    child,
    claim,
    claimer,
    die,
    enqueue,
    finish,
    job,
    queued,
    said,
    status,
)


@pytest.fixture(autouse=True)
def _hosts(environ):
    environ(JOBS_MODULES="tests", WEBHOOK_HOSTS="127.0.0.1")


def kill(redis, **fields):
    """Let the supervisor kill the job that runs, for a reason."""
    die(redis, *claim(redis, 1), **{"cause": "used 900 MB", "handling": Handling.FAIL} | fields)


def todos(redis, queue="default"):
    return [raw.decode() for raw in redis.zrange(keys.todo(queue), 0, -1)]


def call_when_failed(redis, callback=worker_jobs.note_failure, **options):
    enqueue(redis, on_failure=Callback(callback), **options)


# Callbacks


def test_on_failure_of_a_killed_job_is_called_by_the_next_worker_with_the_reason(redis):
    call_when_failed(redis)
    kill(redis)
    before = (status(redis), said(redis), todos(redis))
    child(redis, name="worker-2").work()

    assert before == ("failed", [], ["on_failure default-0"])
    assert said(redis) == ["failure of default-0: AbandonedJobError: used 900 MB"]
    assert not redis.exists(keys.todo("default"), keys.TODO_TRIES)


def test_on_failure_is_called_however_short_a_failed_job_is_kept(redis):
    call_when_failed(redis, failure_ttl=0)
    kill(redis)
    child(redis, name="worker-2").work()

    assert said(redis) == ["failure of default-0: AbandonedJobError: used 900 MB"]
    assert 0 < redis.ttl(keys.job("default-0")) <= 60


def test_what_was_begun_less_than_never_is_dropped(redis):
    call_when_failed(redis)
    kill(redis)
    redis.hset(keys.TODO_TRIES, "on_failure default-0", -(10**6))
    child(redis).work()

    assert not redis.exists(keys.todo("default"), keys.TODO_TRIES)
    assert said(redis) == []


@pytest.mark.parametrize("interval", [0, 60])
def test_on_failure_of_a_killed_job_is_called_although_it_is_retried(redis, interval):
    """As RQ does after each try that has failed."""
    call_when_failed(redis, retry=Retry(1, interval))
    kill(redis)
    child(redis).work()

    assert said(redis) == ["failure of default-0: AbandonedJobError: used 900 MB"]


@pytest.mark.parametrize("handling", [Handling.COUNT, Handling.REQUEUE])
def test_nothing_is_called_for_a_job_that_goes_back(redis, handling):
    call_when_failed(redis)
    kill(redis, handling=handling)

    assert (todos(redis), queued(redis)) == ([], ["default-0"])


def exit_as_callback(job, redis, *error):
    raise SystemExit(3)


def fork_as_callback(job, redis, *error):
    if os.fork():
        os.wait()
        redis.rpush(worker_jobs.SAID, "called")


@pytest.mark.parametrize(
    "callback", [worker_jobs.fail_as_callback, exit_as_callback, fork_as_callback]
)
def test_a_broken_callback_is_called_once_and_the_worker_goes_on(redis, callback):
    call_when_failed(redis, callback)
    kill(redis)
    enqueue(redis, 3, worker_jobs.say, "next", queue="default")
    child(redis).work()

    assert said(redis)[-3:] == ["next"] * 3
    assert said(redis).count("called") <= 1
    assert todos(redis) == []


@pytest.mark.parametrize("path", ["tests.jobs.outside.leave_mark", "no.such.module"])
def test_a_callback_that_cannot_be_called_is_logged_and_dropped(redis, environ, caplog, path):
    environ(JOBS_MODULES="tests.jobs.worker")
    call_when_failed(redis)
    redis.hset(keys.job("default-0"), "failure_callback_name", path)
    kill(redis)
    child(redis).work()

    assert "followup.failed job=default-0 what=on_failure" in caplog.text
    assert (todos(redis), said(redis)) == ([], [])


@pytest.mark.parametrize("becomes", ["gone", "odd"])
def test_of_a_job_that_is_gone_by_then_nothing_is_called(redis, becomes):
    call_when_failed(redis)
    kill(redis)
    redis.delete(keys.job("default-0"))
    if becomes == "odd":
        redis.set(keys.job("default-0"), "odd")
    child(redis).work()

    assert (said(redis), todos(redis)) == ([], [])


class Stage:
    """Where the callback below finds the board of the child that calls it."""

    board: Board


def interrupt_as_callback(job, redis, *error):
    """Play the supervisor, whose grace is over."""
    Stage.board.retire()
    Stage.board.interrupt(Stage.board.running, Board.INTERRUPT)
    os.kill(os.getpid(), CHECK_BOARD)


def test_a_callback_that_a_deploy_interrupts_is_called_again(redis, monkeypatch):
    monkeypatch.setattr(Stage, "board", Board(), raising=False)
    call_when_failed(redis, interrupt_as_callback)
    kill(redis)
    child(redis, Stage.board).work()

    assert todos(redis) == ["on_failure default-0"]
    assert redis.zscore(keys.todo("default"), "on_failure default-0") > redis.time()[0] + 60


def test_a_follow_up_is_one_workers_for_two_minutes_then_anothers_and_dropped_after_three(
    redis, caplog
):
    call_when_failed(redis)
    kill(redis)
    tries = []
    for number in range(3):
        found = claimer(redis, f"worker-{number}").claim(1)
        tries.append((found.todo.line, found.todo.tries))
        assert claimer(redis, "another").claim(1).todo is None
        redis.zadd(keys.todo("default"), {"on_failure default-0": 1})
    child(redis).work()

    assert tries == [("on_failure default-0", number) for number in (1, 2, 3)]
    assert said(redis) == []
    assert "followup.dropped job=default-0 what=on_failure tries=3" in caplog.text
    assert not redis.exists(keys.todo("default"), keys.TODO_TRIES)


@pytest.mark.parametrize("queue", ["default", "last"])
def test_a_follow_up_is_claimed_alone_and_another_worker_is_woken_for_the_jobs(redis, queue):
    call_when_failed(redis)
    kill(redis)
    enqueue(redis, 2, queue=queue)
    redis.delete(keys.wake(queue))
    claims = claimer(redis, queues=("default", "last"))
    found, then = claims.claim(10), claims.claim(10)

    assert (found.todo.line, found.jobs, len(then.jobs)) == ("on_failure default-0", [], 2)
    assert redis.exists(keys.wake(queue))


def test_a_follow_up_comes_after_the_jobs_of_the_queues_before_its_own(redis):
    call_when_failed(redis)
    kill(redis)
    enqueue(redis, 2, queue="first")
    found, then = (claimer(redis, name, queues=("first", "default")).claim(10) for name in "ab")

    assert (len(found.jobs), found.todo) == (2, None)
    assert then.todo.line == "on_failure default-0"


@pytest.mark.parametrize(
    ("limit", "lasts_s"), [(-1, 120), (30, 120), (500, 520), (10**9, 3600), ("nan", 120)]
)
def test_a_callback_is_one_workers_for_as_long_as_it_may_take(redis, limit, lasts_s):
    call_when_failed(redis)
    kill(redis)
    redis.hset(keys.job("default-0"), "failure_callback_timeout", limit)
    before = redis.time()[0]
    found = claimer(redis).claim(1)

    assert before + lasts_s <= float(found.todo.score) <= redis.time()[0] + lasts_s + 1
    assert claimer(redis, "another").claim(1).todo is None


def hand_out_as_callback(job, redis, *error):
    """Play the worker that is given this call after it has gone on for too long."""
    redis.zadd(keys.todo("default"), {"on_failure default-0": 1})
    redis.rpush(worker_jobs.SAID, claimer(redis, "another").claim(1).todo.tries)


def test_tries_of_a_callback_that_takes_too_long_are_counted_on(redis):
    call_when_failed(redis, hand_out_as_callback)
    kill(redis)
    child(redis).work()

    assert said(redis) == ["2"]
    assert todos(redis) == ["on_failure default-0"]
    assert redis.hget(keys.TODO_TRIES, "on_failure default-0") == b"2"


def test_suspended_workers_call_nothing(redis):
    call_when_failed(redis)
    kill(redis)
    suspend(redis)
    child(redis).work()

    assert (said(redis), todos(redis)) == ([], ["on_failure default-0"])


# Webhooks


def hooks(url):
    return [
        Webhook(f"{url}/finished", "finished", method="POST", headers={"X-From": "here"}),
        Webhook(f"{url}/failed", "failed", method="POST"),
        Webhook(f"{url}/get", "finished"),
    ]


@pytest.mark.parametrize("options", [{}, {"result_ttl": 0}, {"repeat": Repeat(1)}])
def test_webhooks_of_a_finished_job_are_sent(redis, options):
    with receiving() as receiver:
        enqueue(redis, webhooks=hooks(receiver.address), **options)
        child(redis).work()
    (method, path, body), second, *_ = receiver.heard

    assert (method, path, body["job_id"], body["status"]) == (
        "POST", "/finished", "default-0", "finished",
    )  # fmt: skip
    assert second == ("GET", "/get", None)
    assert todos(redis) == []
    assert redis.exists(keys.job("default-0")) == (options != {"result_ttl": 0})


@pytest.mark.parametrize("is_killed", [False, True])
def test_webhooks_of_a_failed_job_are_sent_with_the_reason(redis, is_killed):
    with receiving() as receiver:
        enqueue(redis, 1, worker_jobs.fail, webhooks=hooks(receiver.address))
        if is_killed:
            kill(redis)
        child(redis).work()
    [(_, path, body)] = receiver.heard

    assert (path, body["status"]) == ("/failed", "failed")
    assert ("used 900 MB" if is_killed else "ValueError: it broke") in body["exc_info"]


def test_webhooks_are_sent_anew_where_the_job_fails_again_while_they_are_sent(redis):
    heard = []

    def fail_again(body):
        heard.append(body)
        if len(heard) < 5:  # more often than one is begun
            job(redis).requeue()
            [again] = claim(redis, 1, name="worker-2")
            finish(redis, again, "failed", worker="worker-2", error="it broke")

    with receiving(fail_again) as receiver:
        enqueue(redis, 1, worker_jobs.fail, webhooks=hooks(receiver.address))
        child(redis).work()

    assert len(heard) == 5
    assert not redis.exists(keys.todo("default"), keys.TODO_TRIES)


def test_webhooks_have_a_limit_whatever_that_of_a_callback_is(redis):
    board, limits = Board(), []
    with receiving(lambda _: limits.append(board.running.limit_s)) as receiver:
        forever = Callback(worker_jobs.note_failure, timeout=-1)
        enqueue(redis, webhooks=hooks(receiver.address), on_failure=forever)
        child(redis, board).work()

    assert limits == [followups.WEBHOOKS_S]


def test_a_webhook_that_fails_keeps_no_other_and_no_job(redis, caplog):
    with receiving() as receiver:
        receiver.statuses = [500]
        enqueue(redis, webhooks=hooks(receiver.address))
        child(redis).work()

    assert [path for _, path, _ in receiver.heard] == ["/finished", "/get"]
    assert "webhook.failed job=default-0" in caplog.text
    assert status(redis) == "finished"


@pytest.mark.parametrize(
    ("before", "after"), [("//", "//user:secret@"), ("/finished", "/finished?token=secret")]
)
def test_the_log_tells_no_secret_of_a_webhook(redis, caplog, before, after):
    caplog.set_level("INFO")
    with receiving() as receiver:
        enqueue(redis, webhooks=hooks(receiver.address))
        text = redis.hget(keys.job("default-0"), "webhooks").decode()
        redis.hset(keys.job("default-0"), "webhooks", text.replace(before, after))
        child(redis).work()

    assert "webhook." in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0", "2130706433"])
def test_no_webhook_is_sent_to_an_address_in_a_private_network(redis, environ, caplog, host):
    environ(JOBS_MODULES="tests", WEBHOOK_HOSTS="")
    with receiving() as receiver:
        enqueue(redis, webhooks=hooks(receiver.address.replace("127.0.0.1", host)))
        child(redis).work()

    assert receiver.heard == []
    assert "which is not a public address." in caplog.text
    assert "Add the host to WEBHOOK_HOSTS" in caplog.text


@pytest.mark.parametrize(
    ("address", "is_so"),
    [("93.184.216.34", True), ("2606:2800:220:1::1", True), ("::ffff:8.8.8.8", True)]
    + [("64:ff9b::808:808", True), ("64:ff9b::a00:1", False), ("64:ff9b::a9fe:a9fe", False)]
    + [(one, False) for one in ("10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1")]
    + [(one, False) for one in ("::ffff:10.0.0.1", "::10.0.0.1", "2002:a00:1::", "fec0::1", "::")]
    + [(one, False) for one in ("fe80::1", "fd00::1", "64:ff9b:1::a00:1", "224.0.0.1", "ff02::1")],
)
def test_an_address_is_public_only_if_what_it_leads_to_is(address, is_so):
    assert outgoing.is_public(address) == is_so


def test_nor_is_one_that_an_allowed_host_sends_there(redis, caplog):
    with receiving() as allowed, receiving() as private, socket.create_server(("", 0)) as ftp:
        port = ftp.getsockname()[1]
        allowed.statuses = [
            private.address.replace("127.0.0.1", "localhost"),
            f"ftp://127.0.0.1:{port}/file",
        ]
        enqueue(redis, webhooks=hooks(allowed.address))
        child(redis).work()
        ftp.settimeout(0)
        with pytest.raises(BlockingIOError):
            ftp.accept()

    assert (len(allowed.heard), private.heard) == (2, [])
    assert caplog.text.count("webhook.failed") == 2


def test_of_a_webhook_that_is_sent_elsewhere_no_answer_is_read_and_no_key_goes_there(redis, caplog):
    caplog.set_level("INFO")
    with flooding(b"HTTP/1.1 200 OK\r\n\r\n", b"x") as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {other.address}/there\r\n\r\n".encode()
        with flooding(moved, b"x" * 65536) as receiver:
            key = {"Authorization": "Bearer key"}
            enqueue(redis, webhooks=[Webhook(receiver.address, "finished", headers=key)])
            child(redis).work()

    assert b"Bearer key" in receiver.heard
    assert other.heard.startswith(b"GET /there ")
    assert b"key" not in other.heard
    assert receiver.is_cut_short
    assert "webhook.sent" in caplog.text


def test_an_answer_that_never_begins_ends_a_webhook_at_its_limit(redis, caplog):
    with flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.05) as receiver:
        enqueue(redis, webhooks=[Webhook(receiver.address, "finished", timeout=1)])
        child(redis).work()

    assert receiver.is_cut_short
    assert "webhook.failed" in caplog.text
    assert "reason=TimeoutError" in caplog.text


def test_an_answer_with_more_than_a_head_ends_a_webhook(redis, caplog):
    """Python takes a line with bare carriage returns for thousands of fields."""
    line = b"a:\r" * 20_000 + b"\n"
    with flooding(b"HTTP/1.1 200 OK\r\n", line * 50 + b"\r\n") as receiver:
        enqueue(redis, webhooks=hooks(receiver.address))
        child(redis).work()

    assert "webhook.failed" in caplog.text
    assert "the head of the answer is too large" in caplog.text


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://", "x" * 9000])
def test_a_webhook_that_is_no_address_of_the_web_is_not_opened(redis, url, caplog):
    enqueue(redis, webhooks=hooks("http://127.0.0.1"))
    text = redis.hget(keys.job("default-0"), "webhooks").decode()
    odd = text.replace("http://127.0.0.1/finished", url)
    redis.hset(keys.job("default-0"), "webhooks", odd)
    child(redis).work()

    assert (status(redis), todos(redis)) == ("finished", [])
    assert "webhook.sent" not in caplog.text
    assert job(redis, "default-0").id
