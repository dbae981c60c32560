"""What became of a job, and what that means for it: the plan that finish.lua carries out.

Nothing here reads or writes Redis.  Mirrors what BaseWorker.handle_job_success,
handle_job_failure and handle_job_retry do, and rq.repeat.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any, Literal

import rq
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.results import Result

from jiffy import clock, history, keys, tracebacks
from jiffy.producer.retry import Retry, Rules
from jiffy.settings import settings
from jiffy.worker.claim import LONGEST_S, Claimed

# Rare fields of a job, in RQ's fields and in ours.
DETAILS = (
    "failure_ttl", "retries_left", "retry_intervals", "number_of_retries",
    "enqueue_at_front_on_retry", "repeats_left", "repeat_intervals", "rate_limit_key",
    "dependency_ids", "webhooks", "success_callback_name", "failure_callback_name",
    "stopped_callback_name", "started_at", keys.JOIN_FIELD, keys.RETRY_FIELD, keys.RESCUE_FIELD,
    keys.REASON_FIELD,
)  # fmt: skip
_MOST_REASON = 4000  # characters
_LONGEST_NAME = 300  # characters of a function
_NONE, _SUCCESSFUL = 0, Result.Type.SUCCESSFUL.value
# A job whose result is not kept is kept for that long, until its webhooks are sent.
_FOR_WEBHOOKS_S = 60


class Details:
    """A job's rare fields, read from Redis.  What cannot be read counts as missing."""

    def __init__(self, values: Sequence[Any] = ()) -> None:
        found = zip(DETAILS, values or [None] * len(DETAILS), strict=True)
        # A value that was too large to be moved comes as its size.
        self._raw = {name: value for name, value in found if isinstance(value, bytes) and value}

    def number(self, name: str) -> int | None:
        try:
            return _bounded(self._raw[name])
        except (KeyError, ValueError):
            return None

    def numbers(self, name: str) -> list[int]:
        try:
            return [_bounded(number) for number in json.loads(self._raw[name])]
        except (KeyError, ValueError, TypeError, RecursionError, OverflowError):
            return []

    def text(self, name: str) -> str:
        return self._raw.get(name, b"").decode("utf-8", "replace")

    def raw(self, name: str) -> bytes | None:
        return self._raw.get(name)

    @property
    def failure_ttl_s(self) -> int:
        ttl_s = self.number("failure_ttl")
        return DEFAULT_FAILURE_TTL if ttl_s is None else ttl_s

    @property
    def keeps_results(self) -> bool:
        """Whether RQ keeps the results of a failure: the job has no failure_ttl of its own."""
        return self.number("failure_ttl") is None

    @property
    def must_not_repeat(self) -> bool:
        return self.text(keys.RESCUE_FIELD) == "no"


def _bounded(number: Any) -> int:
    return max(-LONGEST_S, min(LONGEST_S, int(number)))


NO_DETAILS = Details()


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
    details: Details = NO_DETAILS
    objection: str = ""  # why a job with retries left is not retried
    log: str = ""  # see joblog.py
    peak_bytes: int = 0  # the most memory that its process had in RAM; 0 of a job that was quick

    @property
    def is_known(self) -> bool:
        """Whether the job has ended; until then, it goes back to its queue."""
        return self.what != "requeued"

    def fail(self, error: str, *, names: tuple[str, ...] = (), may_retry: bool = True) -> None:
        self.what, self.value, self.error = "failed", None, tracebacks.bounded(error)
        self.error_names, self.may_retry = names, may_retry


def row(outcome: Outcome) -> str:
    """The plan for an outcome, as finish.lua reads it: JSON.

    Its fields are the parameters of `finish` there.  Started and ended are given as RQ writes them
    and in s; `ttl_s` -1 keeps it without end; `kind` 0 is no result.  `more` is what is rare: `set`
    (fields and values), `count` (successful, failed or ""), `again` (queued or scheduled),
    `delay_s`, `front`, `keep_result` (without end), `limit` (its rate limit), `has_parents`, `part`
    ([result, error] as JSON, where a workflow waits for it), `todo` (what workers do next for it),
    `func` (its function, for which it is parked).
    """
    job = outcome.job
    status, ttl_s, kind, packed, more = _PLANS[outcome.what](outcome)
    details = outcome.details
    if details is not NO_DETAILS:
        if limit := details.text("rate_limit_key"):
            more["limit"] = limit
        if details.raw("dependency_ids"):
            more["has_parents"] = True
        if status != "finished" and details.keeps_results:
            more["keep_result"] = True
    if outcome.log:
        more["set"] = [*more.get("set", ()), keys.LOG_FIELD, outcome.log]
    if outcome.peak_bytes:
        more["set"] = [*more.get("set", ()), keys.PEAK_FIELD, outcome.peak_bytes]
    # Put together by hand: this is done once for each job, and json.dumps takes twice as long.
    started_s, enqueued_s = outcome.started_s, job.enqueued_s
    waited = -1 if enqueued_s is None else history.bucket(started_s - enqueued_s)
    ran = history.bucket(outcome.ended_s - started_s)
    group = _group(status, waited, ran, outcome.func_name)
    started, started_digits = clock.rq_texts(started_s)
    ended, ended_digits = clock.rq_texts(outcome.ended_s)
    result = "false" if packed is None else f'"{b64encode(packed).decode()}"'
    return (
        f"[{_quoted(job.queue)},{_quoted(job.job_id)},"
        f'{_quoted(job.execution)},"{status}",'
        # All as strings: Valkey's Lua writes a number of seconds as 1.7e+9.
        f'"{started}","{ended}","{started_digits}","{ended_digits}",'
        f"{ttl_s},{kind},{group},{result}"
        f"{',' + json.dumps(more) if more else ''}]"
    )


_ENDS = {
    "finished": "done", "failed": "failed", "stopped": "failed", "retried": "retried",
    "requeued": "interrupted",
}  # fmt: skip


@lru_cache(maxsize=4096)
def _group(status: str, waited: int, ran: int, name: str) -> str:
    """What history.lua counts it with, as JSON: the same for most jobs of a batch."""
    if status not in _ENDS:
        return '""'
    # Stock RQ may have put any text into a job's data.
    is_path = len(name) <= _LONGEST_NAME and (name == "?" or name.replace(".", "").isidentifier())
    ran = -1 if status == "requeued" else ran
    return f'"{_ENDS[status]} {waited} {ran} {name if is_path else history.OTHER}"'


_Plan = tuple[str, int, int, bytes | None, dict[str, Any]]


def _finished(outcome: Outcome) -> _Plan:
    more: dict[str, Any] = {}
    details, ttl_s = outcome.details, outcome.job.result_ttl_s
    kind = _NONE if ttl_s == 0 else _SUCCESSFUL
    if details is NO_DETAILS:
        return "finished", ttl_s, kind, outcome.value, more
    if details.raw(keys.JOIN_FIELD):
        more["part"] = [(outcome.value or b"null").decode("utf-8", "replace"), "null"]
    if details.raw("webhooks"):
        more["todo"] = ["webhooks finished"]
        ttl_s = ttl_s or _FOR_WEBHOOKS_S
    repeats_left = details.number("repeats_left") or 0
    if repeats_left > 0:
        intervals = details.numbers("repeat_intervals") or [0]
        rest = intervals[1:] or intervals
        more |= _again(intervals[0], front=False)
        more["set"] = ["repeats_left", repeats_left - 1, "repeat_intervals", json.dumps(rest)]
    return "finished", ttl_s, kind, outcome.value, more


def _failed(outcome: Outcome) -> _Plan:
    details = outcome.details
    left = details.number("retries_left") or 0
    rules = Rules.read(details.raw(keys.RETRY_FIELD))
    if left > 0 and outcome.may_retry:
        outcome.objection = rules.objection(outcome.error_names)
        if not outcome.objection:
            intervals = details.numbers("retry_intervals") or [0]
            pause_s = rules.pause_s(intervals[max(len(intervals) - left, 0)])
            why = tracebacks.bounded(outcome.error.rstrip(), _MOST_REASON)
            more = _again(pause_s, front=details.number("enqueue_at_front_on_retry") == 1)
            more["set"] = ["retries_left", left - 1, keys.REASON_FIELD, why]
            more |= {"count": "failed", "todo": _callback_of_killed(outcome, "failure")}
            return "retried", details.failure_ttl_s, _NONE, None, more
    return _over(outcome, "failed", Result.Type.FAILED)


def _retried(outcome: Outcome) -> _Plan:
    """It returned a `Retry`, which counts what it has had in all."""
    details = outcome.details
    assert outcome.retry is not None
    retry = outcome.retry.once if isinstance(outcome.retry, Retry) else outcome.retry
    had = details.number("number_of_retries") or 0
    if had and had >= retry.max:
        return _over(outcome, "failed", Result.Type.MAX_RETRIES_EXCEEDED)
    at_front = retry.enqueue_at_front or details.number("enqueue_at_front_on_retry") == 1
    intervals = list(retry.intervals) or [0]
    more = _again(intervals[min(had, len(intervals) - 1)], front=at_front) | {"count": "failed"}
    more["set"] = ["number_of_retries", had + 1]
    if at_front:
        more["set"] += ["enqueue_at_front_on_retry", 1]
    return "retried", details.failure_ttl_s, Result.Type.RETRIED.value, outcome.value, more


def _unwritten(outcome: Outcome) -> _Plan:
    """It goes back to the front, or waits for its function, as if it had never begun; or it had
    ended before.
    """
    func = {"func": outcome.func_name} if outcome.what == "parked" else {}
    return outcome.what, 0, _NONE, None, {"count": "", **func}


def _over(outcome: Outcome, status: str, kind: Result.Type) -> _Plan:
    details = outcome.details
    when = "stopped" if status == "stopped" else "failure"
    more: dict[str, Any] = {"count": "failed", "todo": _callback_of_killed(outcome, when)}
    if details.raw(keys.JOIN_FIELD):
        more["part"] = ["null", json.dumps(tracebacks.reason_of(outcome.error) or None)]
    if status == "failed" and details.raw("webhooks"):
        more["todo"].append("webhooks failed")
    if details.raw(keys.REASON_FIELD):  # of a try before this
        more["set"] = [keys.REASON_FIELD, ""]
    if not outcome.is_recorded:
        more["set"] = [*more.get("set", []), "ended_at", ""]
    if release := settings().this_release:
        more["set"] = [*more.get("set", []), keys.RELEASE_FIELD, release]
    packed = outcome.value if kind is not Result.Type.FAILED else _compressed(outcome.error)
    return status, details.failure_ttl_s, kind.value if outcome.is_recorded else _NONE, packed, more


def _callback_of_killed(outcome: Outcome, when: str) -> list[str]:
    """The callback that its process can no longer call, if it has one."""
    has_callback = outcome.details.raw(f"{when}_callback_name")
    return [f"on_{when}"] if outcome.was_killed and has_callback else []


def _again(delay_s: float, *, front: bool) -> dict[str, Any]:
    again: dict[str, Any] = {"again": "scheduled" if delay_s else "queued", "delay_s": delay_s}
    return again | ({"front": True} if front else {})


_PLANS = {
    "finished": _finished,
    "failed": _failed,
    "stopped": lambda outcome: _over(outcome, "stopped", Result.Type.FAILED),
    "retried": _retried,
    "requeued": _unwritten,
    "parked": _unwritten,
    "over": _unwritten,
}


def _compressed(text: str) -> bytes:
    return zlib.compress(text.encode("utf-8", "backslashreplace"))
