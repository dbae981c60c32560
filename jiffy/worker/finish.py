"""What became of a job, and what that means for it: the plan that finish.lua carries out.

Nothing here reads or writes Redis.  Mirrors what BaseWorker.handle_job_success,
handle_job_failure and handle_job_retry do, and rq.repeat.
"""

import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgspec
import rq
from rq.results import Result

from jiffy import clock, history, keys, log, tracebacks
from jiffy.producer.retry import Retry, Rules
from jiffy.redis_io import script_command
from jiffy.settings import settings
from jiffy.worker.claim import NO_DETAILS, ClaimedJob

_MOST_REASON = 4000  # characters
# A job is kept for that long at least, until what follows (callbacks, webhooks) has read it.
_FOR_FOLLOW_UPS_S = 60
# What history counts a plan's status as.
_ENDS = {
    "finished": "done", "failed": "failed", "retried": "retried",
    "stopped": "interrupted", "requeued": "interrupted",
}  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What became of a job that was begun; times are seconds since the epoch.

    `value` is the packed result; `error` the end of the traceback, or why it was ended;
    `error_names` what it raised (`retry.names_of`); `retry` is what it returned, if it is to run
    again; `was_killed`: its process is gone, so its callbacks are still to be called.
    """

    job: ClaimedJob
    func_name: str
    started_s: float
    ended_s: float = 0
    # "requeued" by a shutdown, "parked" since its function is paused, or "gone": it has ended
    # elsewhere.
    status: Literal[
        "unknown", "finished", "failed", "stopped", "requeued", "parked", "gone"
    ] = "unknown"  # fmt: skip
    value: bytes | None = None
    error: str = ""
    error_names: tuple[str, ...] = ()
    retry: rq.Retry | None = None
    may_retry: bool = True
    has_failed: bool = False  # for good, as its plan says
    was_killed: bool = False
    is_recorded: bool = True  # RQ's `disable_default_exception_handler`
    logged: str = ""  # see joblog.py
    peak_bytes: int = 0  # the most memory that its process had in RAM; 0 of a job that was quick

    @property
    def took_s(self) -> float:
        return self.ended_s - self.started_s

    @property
    def retries_left(self) -> int:
        return (self.job.details.number("retries_left") or 0) if self.may_retry else 0

    @property
    def rules(self) -> Rules:
        return Rules.read(self.job.details.raw(keys.RETRY_FIELD))

    def fail(self, error: str, *, names: tuple[str, ...] = (), may_retry: bool = True) -> None:
        self.status, self.value, self.retry = "failed", None, None
        self.error, self.error_names = tracebacks.bounded(error), names
        self.may_retry = may_retry

    def log(self) -> None:
        status = "failed" if self.has_failed else "retried" if self.retry else self.status
        why = {"reason": tracebacks.reason_of(self.error)} if self.error else {}
        log.job(
            f"job.{status}", self.ended_s, log.ERROR if self.has_failed else log.INFO,
            job=self.job.job_id, func=self.func_name, queue=self.job.queue,
            took_ms=f"{self.took_s * 1000:.1f}", **why,
        )  # fmt: skip
        if self.error:
            self.log_given_up()

    def log_given_up(self) -> None:
        """Log why a job that has failed is not retried though it has retries left, if so."""
        may_retry = self.status == "failed" and self.retries_left > 0
        if may_retry and (reason := self.rules.objection(self.error_names)):
            log.event("job.given_up", log.WARNING, job=self.job.job_id, reason=reason)


class FinishPlan(msgspec.Struct, omit_defaults=True):
    """What finish.lua is to write of an outcome, as JSON; what is not set here is not in it.

    Outcome           status      again          kind                           ttl_s
    finished          finished    if it repeats  SUCCESSFUL, where it is kept   result_ttl
    failed, retried   retried     yes
    returned a Retry  retried     yes            RETRIED                        failure_ttl
    failed, stopped   the same    no             FAILED, MAX_RETRIES_EXCEEDED   failure_ttl
    requeued, parked  the same

    Moments and `kind` are strings: Valkey's Lua writes a number of seconds as 1.7e+9.
    """

    queue: str
    id: str
    execution: str
    started: str
    ended: str
    started_s: str
    ended_s: str
    status: str = ""  # what becomes of the job: mostly its status in RQ; "retried": it runs again
    counted_as: str = ""  # by the history: see `_counted_as`
    ttl_s: int = 0  # for how long the job is kept; -1: without end
    kind: str = ""  # of its result in RQ; "": it has none
    value: bytes | None = None
    keeps_result: bool = False  # without end, whatever `ttl_s` says
    set: list[Any] = []  # fields of its hash, and their values
    again: Literal["", "queued", "scheduled"] = ""  # its status until it runs again
    delay_s: float = 0  # until then
    at_front: bool = False
    rate_limit: str = ""  # the one whose slot it frees
    has_parents: bool = False
    part_result: list[str] = []  # its result and error as JSON, where a workflow waits for it
    todo: list[str] = []  # what workers do next for it
    func: str = ""  # the function for which it is parked

    def run_again(self, delay_s: float, *, at_front: bool) -> None:
        self.again = "scheduled" if delay_s else "queued"
        self.delay_s, self.at_front = delay_s, at_front

    def follow(self, *todo: str) -> None:
        """Let workers do this next; the job is kept until then."""
        self.todo.extend(todo)
        if todo and self.ttl_s >= 0:
            self.ttl_s = max(self.ttl_s, _FOR_FOLLOW_UPS_S)


_to_json = msgspec.json.Encoder().encode


def finish_command(worker: str, plans: bytes) -> bytes:
    """The command that carries out plans of a worker: JSON, with commas between."""
    return script_command("finish", [keys.worker(worker)], [worker, b"[%b]" % plans])


def plan_for(outcome: Outcome) -> bytes:
    """The `FinishPlan` for an outcome."""
    job, details = outcome.job, outcome.job.details
    started, started_s = clock.rq_texts(outcome.started_s)
    ended, ended_s = clock.rq_texts(outcome.ended_s)
    plan = FinishPlan(job.queue, job.job_id, job.execution, started, ended, started_s, ended_s)
    match outcome.status:
        case "finished" if outcome.retry:
            _plan_retry(outcome, outcome.retry, plan)
        case "finished":
            _plan_finished(outcome, plan)
        case "failed":
            _plan_failed(outcome, plan)
        case "stopped":
            _plan_end(outcome, plan)
        case status:
            plan.status, plan.func = status, outcome.func_name
    if details is not NO_DETAILS:
        plan.rate_limit = details.text("rate_limit_key")
        plan.has_parents = bool(details.raw("dependency_ids"))
    # As RQ, which keeps the results of a failure unless the job has a failure_ttl of its own.
    plan.keeps_result = plan.status != "finished" and details.number("failure_ttl") is None
    if outcome.logged:
        plan.set += [keys.LOG_FIELD, outcome.logged]
    if outcome.peak_bytes:
        plan.set += [keys.PEAK_FIELD, outcome.peak_bytes]
    waited = -1 if job.enqueued_s is None else history.bucket(outcome.started_s - job.enqueued_s)
    ran = history.bucket(outcome.took_s)
    plan.counted_as = _counted_as(plan.status, waited, ran, outcome.func_name)
    try:
        return _to_json(plan)
    except UnicodeEncodeError:  # an id that is no UTF-8 goes back as the bytes that it came as
        text = json.dumps(msgspec.to_builtins(plan), ensure_ascii=False)
        return text.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=4096)
def _counted_as(status: str, waited: int, ran: int, func_name: str) -> str:
    """What history counts it as: the same for most jobs of a batch."""
    if status not in _ENDS:
        return ""
    # Stock RQ may have put any text into a job's data.
    is_path = func_name == "?" or func_name.replace(".", "").isidentifier()
    ran = -1 if status == "requeued" else ran
    return f"{_ENDS[status]} {waited} {ran} {func_name if is_path else history.OTHER}"


def _plan_finished(outcome: Outcome, plan: FinishPlan) -> None:
    details, ttl_s = outcome.job.details, outcome.job.result_ttl_s
    plan.status, plan.ttl_s, plan.value = "finished", ttl_s, outcome.value
    plan.kind = str(Result.Type.SUCCESSFUL.value) if ttl_s else ""
    if details is NO_DETAILS:
        return
    if details.raw(keys.JOIN_FIELD):
        plan.part_result = [(outcome.value or b"null").decode("utf-8", "replace"), "null"]
    if details.raw("webhooks"):
        plan.follow("webhooks finished")
    if details.raw(keys.ALONE_FIELD):  # a repetition starts with no crashes
        plan.set = [keys.ALONE_FIELD, "", "jiffy:crashes", "", "jiffy:causes", ""]
    if (repeats_left := details.number("repeats_left") or 0) > 0:
        pause_s, *rest = details.numbers("repeat_intervals")
        plan.run_again(pause_s, at_front=False)
        plan.set += ["repeats_left", repeats_left - 1]
        plan.set += ["repeat_intervals", json.dumps(rest or [pause_s])]


def _plan_failed(outcome: Outcome, plan: FinishPlan) -> None:
    details, left, rules = outcome.job.details, outcome.retries_left, outcome.rules
    if left <= 0 or rules.objection(outcome.error_names):
        _plan_end(outcome, plan)
        return
    intervals = details.numbers("retry_intervals")
    pause_s = rules.pause_s(intervals[max(len(intervals) - left, 0)])
    plan.run_again(pause_s, at_front=details.number("enqueue_at_front_on_retry") == 1)
    why = tracebacks.bounded(outcome.error.rstrip(), _MOST_REASON)
    plan.status, plan.set = "retried", ["retries_left", left - 1, keys.REASON_FIELD, why]
    plan.todo = _callback_of_killed(outcome, "failure")


def _plan_retry(outcome: Outcome, retry: rq.Retry, plan: FinishPlan) -> None:
    """It returned a `Retry`, which counts what it has had in all."""
    retry = retry.once if isinstance(retry, Retry) else retry
    details = outcome.job.details
    had = max(details.number("number_of_retries") or 0, 0)
    if had and had >= retry.max:
        _plan_end(outcome, plan, Result.Type.MAX_RETRIES_EXCEEDED)
        return
    at_front = retry.enqueue_at_front or details.number("enqueue_at_front_on_retry") == 1
    intervals = list(retry.intervals) or [0]
    plan.run_again(intervals[min(had, len(intervals) - 1)], at_front=at_front)
    plan.status, plan.ttl_s, plan.value = "retried", details.failure_ttl_s, outcome.value
    plan.kind, plan.set = str(Result.Type.RETRIED.value), ["number_of_retries", had + 1]
    if at_front:
        plan.set += ["enqueue_at_front_on_retry", 1]


def _plan_end(
    outcome: Outcome, plan: FinishPlan, kind: Result.Type = Result.Type.FAILED
) -> None:  # fmt: skip
    """It was stopped, or has failed and is not tried again."""
    details = outcome.job.details
    plan.status = "stopped" if outcome.status == "stopped" else "failed"
    outcome.has_failed = plan.status == "failed"
    plan.ttl_s, plan.value = details.failure_ttl_s, outcome.value
    plan.follow(*_callback_of_killed(outcome, plan.status.replace("failed", "failure")))
    if details.raw(keys.JOIN_FIELD):
        plan.part_result = ["null", json.dumps(tracebacks.reason_of(outcome.error) or None)]
    if plan.status == "failed" and details.raw("webhooks"):
        plan.follow("webhooks failed")
    if details.raw(keys.REASON_FIELD):  # of a try before this
        plan.set += [keys.REASON_FIELD, ""]
    if release := settings().this_release:
        plan.set += [keys.RELEASE_FIELD, release]
    if kind is Result.Type.FAILED:
        plan.value = zlib.compress(outcome.error.encode("utf-8", "backslashreplace"))
    if outcome.is_recorded:
        plan.kind = str(kind.value)
    else:
        plan.set += ["ended_at", ""]


def _callback_of_killed(outcome: Outcome, when: str) -> list[str]:
    """The callback that its process can no longer call, if it has one."""
    has_callback = outcome.job.details.raw(f"{when}_callback_name")
    return [f"on_{when}"] if outcome.was_killed and has_callback else []
