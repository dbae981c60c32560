"""What is done for a job that has ended: the callbacks of one that was killed, and webhooks.

At least once: it stands in Redis until it is done.  A worker that claims it has two minutes, or as
long as its callback may take, up to an hour; then the next worker of that queue begins it.  After
three tries it is dropped.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from urllib.request import Request

from rq.exceptions import AbandonedJobError, NoSuchJobError
from rq.job import Job

from jiffy import keys, log, outgoing, rq_compat, tracebacks
from jiffy.producer import masking
from jiffy.redis_io import command
from jiffy.settings import settings
from jiffy.worker.claim import FollowUp
from jiffy.worker.decode import guarded
from jiffy.worker.run import Interrupted, Runner

MOST_TRIES = 3
WEBHOOKS_S = 100  # for all of a job: the next worker begins them after 120 s


def do(todo: FollowUp, runner: Runner) -> None:
    """Do it under a limit of its own, and take it off the list."""
    kind, _, job_id = todo.line.rpartition(" ")
    try:
        if not 0 < todo.tries <= MOST_TRIES:
            log.event("followup.dropped", log.ERROR, job=job_id, what=kind, tries=todo.tries - 1)
        elif not _do(kind, job_id, runner):
            return  # this process ends: the next one does it
    except Interrupted:
        return
    except NoSuchJobError:
        pass
    except BaseException as error:  # noqa: BLE001 - a callback may raise anything
        log.event("followup.failed", log.WARNING, job=job_id, what=kind, reason=repr(error))
    finally:
        runner.board.end()
        # A callback may have selected another database on this connection.
        runner.link.redis.connection_pool.disconnect(inuse_connections=False)
    # Not by its line: that may be there for the job's next end by now.
    done = command("ZREMRANGEBYSCORE", keys.todo(todo.queue), todo.score, todo.score)
    forget = command("HDEL", keys.TODO_TRIES, todo.line)
    if runner.link.insist(lambda: runner.link.exchange(done)) != [0]:
        runner.link.insist(lambda: runner.link.exchange(forget))


def _do(kind: str, job_id: str, runner: Runner) -> bool:
    """Do it; False if it must not begin."""
    rq_worker = runner.rq_worker
    job = guarded(rq_worker.job_class).fetch(job_id, runner.link.redis, rq_worker.serializer)
    limits_s = {
        "on_stopped": job.stopped_callback_timeout, "on_failure": job.failure_callback_timeout
    }  # fmt: skip
    if not runner.board.begin(0, limits_s.get(kind, WEBHOOKS_S)):
        return False
    if kind == "on_stopped":
        runner.call_user_code(rq_compat.call_on_stopped, job, rq_worker.death_penalty_class)
    elif kind == "on_failure":
        # A job that is retried has the reason in its hash, and no result.
        reason: Any = job.connection.hget(job.key, keys.REASON_FIELD)
        error = AbandonedJobError(reason.decode("utf-8", "replace") if reason else _error_of(job))
        penalty = rq_worker.death_penalty_class
        runner.call_user_code(rq_compat.call_on_failure, job, penalty, type(error), error, None)
    else:
        status = kind.rpartition(" ")[2]
        with rq_compat.webhooks_opened_by(partial(_open, job.id)):
            job.send_webhooks(status, exc_string=_error_of(job))
        if status == "finished" and job.result_ttl == 0 and job.is_finished:
            job.delete(remove_from_queue=False)  # kept until now for these
    return True


def _error_of(job: Job) -> str:
    """The error of its newest result; "" for none."""
    newest: Any = job.connection.xrevrange(keys.results(job.id), count=1)
    return tracebacks.unpacked(newest[0][1].get(b"exc_string", b"")) if newest else ""


def _open(job_id: str, request: Request, timeout: float) -> AbstractContextManager[None]:
    """Send a webhook, but only to an address that is allowed; one that fails is logged.

    Anyone who can write to Redis chooses the address.
    """
    url = masking.masked(request.full_url)
    try:
        outgoing.send(request, timeout, settings().webhook_hosts)
        log.event("webhook.sent", job=job_id, url=url)
    except Exception as error:  # noqa: BLE001 - as RQ: it fails no job
        reason = outgoing.reason(error)
        log.event("webhook.failed", log.WARNING, job=job_id, url=url, reason=reason)
    return nullcontext()
