"""Completes the history of an entry with how its jobs ended; running a job does not write it."""

from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from rq.utils import utcparse

from jiffy import entries, keys
from jiffy.redis_io import is_away
from jiffy.tracebacks import reason_of

AT_A_TIME = 500
_SOONEST_S, _LATEST_S = 1, 60  # an unfinished job is looked at again after a quarter of its age
_LONGEST_REASON = 150
_ENDED = {"finished", "failed", "stopped", "canceled"}
_FIELDS = ("status", "started_at", "ended_at", keys.REASON_FIELD)


def follow_up(redis: Redis, now: datetime) -> tuple[list[tuple[str, entries.Run]], bool]:
    """Look at jobs that may have ended; return those that have, each with its entry's id, and
    whether more wait.  Of several schedulers that do this at once, one returns a job.
    """
    try:
        members = _members(redis, now)
    except ResponseError as error:
        if is_away(error):
            raise
        redis.delete(keys.OPEN_TICKS)  # not data of ours
        return [], False
    with redis.pipeline(transaction=False) as pipe:
        for _, job_id, _ in members:
            pipe.hmget(keys.job(job_id), _FIELDS)
        answers = pipe.execute(raise_on_error=False)
    ended, ends = [], []
    with redis.pipeline(transaction=False) as pipe:
        for (entry_id, job_id, line), job in zip(members, answers, strict=True):
            member, history = f"{entry_id} {job_id} {line}", keys.ticks(entry_id)
            complete = _completed(line, job if isinstance(job, list) else [None] * len(_FIELDS))
            if complete is None:
                age_s = now.timestamp() - float(line.split("|")[1].partition("+")[0])
                again_s = min(max(age_s / 4, _SOONEST_S), _LATEST_S)
                pipe.zadd(keys.OPEN_TICKS, {member: now.timestamp() + again_s}, xx=True)
                continue
            ends.append(len(pipe))
            ended.append((entry_id, entries.run_of(entry_id, complete)))
            pipe.zrem(keys.OPEN_TICKS, member)
            pipe.linsert(history, "BEFORE", line, complete)
            pipe.lrem(history, 1, line)
        answers = pipe.execute(raise_on_error=False)
    mine = [run for run, at in zip(ended, ends, strict=True) if answers[at] == 1]
    return mine, len(members) == AT_A_TIME


def _members(redis: Redis, now: datetime) -> list[tuple[str, str, str]]:
    found: Any = redis.zrangebyscore(keys.OPEN_TICKS, "-inf", now.timestamp(), 0, AT_A_TIME)
    return [tuple(raw.decode().split(" ", 2)) for raw in found]


def _completed(line: str, job: list[bytes | None]) -> str | None:
    """The line with how its job ended; None if it has not."""
    status, started, ended, why = ((raw or b"").decode("utf-8", "replace") for raw in job)
    head, late_ms, _, _, reason = line.rsplit("|", 4)
    took_ms = ""
    if status and status not in _ENDED:
        return None
    if started and ended:
        took_ms = f"{(utcparse(ended) - utcparse(started)).total_seconds() * 1000:.0f}"
    if status == "canceled" and why:
        # In the others it says why they were tried again.
        reason = reason_of(why)[:_LONGEST_REASON]
    return f"{head}|{late_ms}|{status or 'gone'}|{took_ms}|{reason}"
