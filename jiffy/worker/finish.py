"""What became of a job, and what that means for it: the plan that finish.lua carries out.

Nothing here reads or writes Redis.  Mirrors what BaseWorker.handle_job_success,
handle_job_failure and handle_job_retry do, and rq.repeat.
"""

import json
import zlib
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any, Literal

import rq
from rq.results import Result

from jiffy import clock, history, keys, log, tracebacks
from jiffy.producer.retry import Retry, Rules
from jiffy.redis_io import script_command
from jiffy.settings import settings
from jiffy.worker.claim import NO_DETAILS, Claimed

_MOST_REASON = 4000  # characters
_SUCCESSFUL = Result.Type.SUCCESSFUL.value
# A job whose result is not kept is kept for that long, until its webhooks are sent.
_FOR_WEBHOOKS_S = 60
# What history counts an outcome as.
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

    job: Claimed
    func_name: str
    started_s: float
    ended_s: float = 0
    what: Literal["finished", "failed", "stopped", "retried", "requeued", "parked", "over"] = (
        "requeued"
    )
    value: bytes | None = None
    error: str = ""
    error_names: tuple[str, ...] = ()
    retry: rq.Retry | None = None
    may_retry: bool = True
    was_killed: bool = False
    is_recorded: bool = True  # RQ's `disable_default_exception_handler`
    logged: str = ""  # see joblog.py
    peak_bytes: int = 0  # the most memory that its process had in RAM; 0 of a job that was quick

    @property
    def is_known(self) -> bool:
        """Whether the job has ended; until then, it goes back to its queue."""
        return self.what != "requeued"

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
        self.what, self.value, self.error = "failed", None, tracebacks.bounded(error)
        self.error_names, self.may_retry = names, may_retry

    def log(self) -> None:
        """Log how it ended."""
        why = {"reason": tracebacks.reason_of(self.error)} if self.error else {}
        log.job(
            f"job.{self.what}", job=self.job.job_id, func=self.func_name, queue=self.job.queue,
            took_ms=f"{self.took_s * 1000:.1f}", **why,
        )  # fmt: skip
        if self.error:
            self.log_given_up()

    def log_given_up(self) -> None:
        """Log why a job that has failed is not retried though it has retries left, if so."""
        may_retry = self.what == "failed" and self.retries_left > 0
        if may_retry and (reason := self.rules.objection(self.error_names)):
            log.event("job.given_up", log.WARNING, job=self.job.job_id, reason=reason)


def finish_command(worker: str, rows: str) -> bytes:
    """The command that writes outcomes of a worker; `rows` are JSON, with commas between."""
    # An id may be no UTF-8: it goes back as the bytes that it came as.
    packed = f"[{rows}]".encode("utf-8", "surrogateescape")
    return script_command("finish", [keys.worker(worker)], [worker, packed])


# What is to be written of an outcome: what becomes of the job, mostly its status in RQ; what is
# rare (see `row`); for how long in s (-1: without end); the kind of its result in RQ (0: none), and
# its result.
_Plan = tuple[str, dict[str, Any], int, int, bytes | None]


def row(outcome: Outcome) -> str:
    """The plan for an outcome as JSON: its fields are the parameters of `finish` in finish.lua.

    `more` is what is rare: `set` (fields and values), `again` (queued or scheduled), `delay_s`,
    `front`, `keep_result` (without end), `limit` (its rate limit), `has_parents`, `part` ([result,
    error] as JSON, where a workflow waits for it), `todo` (what workers do next for it), `func`
    (its function, for which it is parked).
    """
    job, details = outcome.job, outcome.job.details
    status, more, ttl_s, kind, value = _PLANS[outcome.what](outcome)
    if details is not NO_DETAILS:
        if limit := details.text("rate_limit_key"):
            more["limit"] = limit
        if details.raw("dependency_ids"):
            more["has_parents"] = True
    # As RQ, which keeps the results of a failure unless the job has a failure_ttl of its own.
    if status != "finished" and kind > 0 and details.number("failure_ttl") is None:
        more["keep_result"] = True
    if outcome.logged:
        more["set"] = [*more.get("set", ()), keys.LOG_FIELD, outcome.logged]
    if outcome.peak_bytes:
        more["set"] = [*more.get("set", ()), keys.PEAK_FIELD, outcome.peak_bytes]
    # Put together by hand: this is done once for each job, and json.dumps takes twice as long.
    # Without escapes: Lua's JSON knows none for the bytes of a name that is no UTF-8.
    enqueued_s, started_s = job.enqueued_s, outcome.started_s
    waited = -1 if enqueued_s is None else history.bucket(started_s - enqueued_s)
    group = _group(status, waited, history.bucket(outcome.took_s), outcome.func_name)
    started, started_digits = clock.rq_texts(started_s)
    ended, ended_digits = clock.rq_texts(outcome.ended_s)
    result = "false" if value is None else f'"{b64encode(value).decode()}"'
    return (
        f"[{_quoted(job.queue)},{_quoted(job.job_id)},"
        f'{_quoted(job.execution)},"{status}",'
        # All as strings: Valkey's Lua writes a number of seconds as 1.7e+9.
        f'"{started}","{ended}","{started_digits}","{ended_digits}",'
        f'{ttl_s},"{kind}",{group},{result}'
        f"{',' + json.dumps(more, ensure_ascii=False) if more else ''}]"
    )


@lru_cache(maxsize=4096)
def _group(status: str, waited: int, ran: int, name: str) -> str:
    """What history counts it as, as JSON: the same for most jobs of a batch."""
    if status not in _ENDS:
        return '""'
    # Stock RQ may have put any text into a job's data.
    is_path = name == "?" or name.replace(".", "").isidentifier()
    ran = -1 if status == "requeued" else ran
    return f'"{_ENDS[status]} {waited} {ran} {name if is_path else history.OTHER}"'


def _finished(outcome: Outcome) -> _Plan:
    more: dict[str, Any] = {}
    details, ttl_s = outcome.job.details, outcome.job.result_ttl_s
    kind = _SUCCESSFUL if ttl_s else 0
    if details is NO_DETAILS:
        return "finished", more, ttl_s, kind, outcome.value
    if details.raw(keys.JOIN_FIELD):
        more["part"] = [(outcome.value or b"null").decode("utf-8", "replace"), "null"]
    if details.raw("webhooks"):
        more["todo"] = ["webhooks finished"]
        ttl_s = ttl_s or _FOR_WEBHOOKS_S
    if details.raw(keys.ALONE_FIELD):  # a repetition starts with no crashes
        more["set"] = [keys.ALONE_FIELD, "", "jiffy:crashes", "", "jiffy:causes", ""]
    if (repeats_left := details.number("repeats_left") or 0) > 0:
        pause_s, *rest = details.numbers("repeat_intervals")
        more |= _again(pause_s, front=False)
        rest_text = json.dumps(rest or [pause_s])
        repeats = ["repeats_left", repeats_left - 1, "repeat_intervals", rest_text]
        more["set"] = [*more.get("set", ()), *repeats]
    return "finished", more, ttl_s, kind, outcome.value


def _failed(outcome: Outcome) -> _Plan:
    details, left, rules = outcome.job.details, outcome.retries_left, outcome.rules
    if left <= 0 or rules.objection(outcome.error_names):
        return _over(outcome, Result.Type.FAILED)
    intervals = details.numbers("retry_intervals")
    pause_s = rules.pause_s(intervals[max(len(intervals) - left, 0)])
    more = _again(pause_s, front=details.number("enqueue_at_front_on_retry") == 1)
    why = tracebacks.bounded(outcome.error.rstrip(), _MOST_REASON)
    more["set"] = ["retries_left", left - 1, keys.REASON_FIELD, why]
    more["todo"] = _callback_of_killed(outcome, "failure")
    return "retried", more, 0, 0, None


def _retried(outcome: Outcome) -> _Plan:
    """It returned a `Retry`, which counts what it has had in all."""
    assert outcome.retry is not None
    retry = outcome.retry.once if isinstance(outcome.retry, Retry) else outcome.retry
    details = outcome.job.details
    had = details.number("number_of_retries") or 0
    if had and had >= retry.max:
        return _over(outcome, Result.Type.MAX_RETRIES_EXCEEDED)
    at_front = retry.enqueue_at_front or details.number("enqueue_at_front_on_retry") == 1
    intervals = list(retry.intervals) or [0]
    more = _again(intervals[min(had, len(intervals) - 1)], front=at_front)
    more["set"] = ["number_of_retries", had + 1]
    if at_front:
        more["set"] += ["enqueue_at_front_on_retry", 1]
    kind = Result.Type.RETRIED.value
    return "retried", more, details.failure_ttl_s, kind, outcome.value


def _unwritten(outcome: Outcome) -> _Plan:
    """It goes back to the front, or waits for its function, as if it had never begun; or it had
    ended before.
    """
    more = {"func": outcome.func_name} if outcome.what == "parked" else {}
    return outcome.what, more, 0, 0, None


def _over(outcome: Outcome, kind: Result.Type = Result.Type.FAILED) -> _Plan:
    status = "stopped" if outcome.what == "stopped" else "failed"
    details = outcome.job.details
    when = "stopped" if status == "stopped" else "failure"
    more: dict[str, Any] = {"todo": _callback_of_killed(outcome, when), "set": []}
    if details.raw(keys.JOIN_FIELD):
        more["part"] = ["null", json.dumps(tracebacks.reason_of(outcome.error) or None)]
    if status == "failed" and details.raw("webhooks"):
        more["todo"].append("webhooks failed")
    if details.raw(keys.REASON_FIELD):  # of a try before this
        more["set"] += [keys.REASON_FIELD, ""]
    if not outcome.is_recorded:
        more["set"] += ["ended_at", ""]
    if release := settings().this_release:
        more["set"] += [keys.RELEASE_FIELD, release]
    value = outcome.value
    if kind is Result.Type.FAILED:
        value = zlib.compress(outcome.error.encode("utf-8", "backslashreplace"))
    kept = kind.value if outcome.is_recorded else 0
    return status, more, details.failure_ttl_s, kept, value


def _callback_of_killed(outcome: Outcome, when: str) -> list[str]:
    """The callback that its process can no longer call, if it has one."""
    has_callback = outcome.job.details.raw(f"{when}_callback_name")
    return [f"on_{when}"] if outcome.was_killed and has_callback else []


def _again(delay_s: float, *, front: bool) -> dict[str, Any]:
    again: dict[str, Any] = {"again": "scheduled" if delay_s else "queued", "delay_s": delay_s}
    return again | ({"front": True} if front else {})


_PLANS = {
    "finished": _finished, "failed": _failed, "stopped": _over, "retried": _retried,
    "requeued": _unwritten, "parked": _unwritten, "over": _unwritten,
}  # fmt: skip
