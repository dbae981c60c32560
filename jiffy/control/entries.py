"""The schedule's entries as they stand in Redis, the history of their runs, and their actions.

For pages, scripts and shells, which have no SCHEDULE.  A pause or a skip lasts through deploys.
"""

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct
from redis import Redis
from redis.exceptions import ResponseError
from rq.utils import utcparse

from jiffy import clock, keys, redis_io
from jiffy.control import values
from jiffy.control.values import Moment, answer, answers, clip, line, number, text
from jiffy.errors import InvalidValue, NotShown, UnknownEntry
from jiffy.producer.job import ENDED
from jiffy.producer.masking import masked_text
from jiffy.redis_io import run_script
from jiffy.tracebacks import reason_of

T = TypeVar("T")

MOST_SKIPPED = 1000
_RECENT = 12
_LONGEST_TEXT = 200
_ID_PREFIX = "entry-"
_LONGEST_NAME = 200
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{_LONGEST_NAME}}}")
_OUTCOMES = {"s": "skipped", "m": "missed"}
_AT_A_TIME = 500  # jobs whose end is looked for
# One that has not ended is looked at again after a quarter of its age.
_SOONEST_S, _LATEST_S = 1, 60
_LONGEST_REASON = 150
_ODD = (NotShown, ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError)
_END_FIELDS = ("status", "started_at", "ended_at", keys.REASON_FIELD, keys.REPLACED_FIELD)
_SHOWN_FIELDS = (keys.POLICY_FIELD, "description", "origin", "meta", keys.TICK_OF_FIELD)


class Run(Struct, frozen=True, rename={"job_id": "job"}):
    """A run of an entry.

    slot: Its run time.
    outcome: open: its job waits or runs; later that job's state, or gone; or why there is no job:
      skipped, missed.
    job: Its job's id.
    late_ms: How late it was enqueued, after what jitter added.
    duration_s: How long its job ran.
    reason: Why there is no job, who requested one, or why it was canceled.
    """

    slot: Moment
    outcome: str
    job_id: str | None
    late_ms: int | None
    duration_s: float | None
    reason: str | None


@dataclass(frozen=True)
class Paused:
    """Who paused an entry, and why; it ends by itself if there is an `until`."""

    who: str
    why: str
    since: Moment
    until: Moment | None


@dataclass(frozen=True, kw_only=True)
class State:
    """An entry as it stands."""

    name: str
    id: str
    call: str  # in words, without secrets
    words: str  # its times
    queue: str
    next_at: datetime | None
    is_of_table: bool  # of SCHEDULE, or else made through rq-scheduler's API
    is_done: bool  # it will not run again
    paused: Paused | None
    skip: int  # so many of the next runs are skipped
    recent: tuple[Run, ...]  # the last few, newest first

    @property
    def last(self) -> Run | None:
        return self.recent[0] if self.recent else None


def read(redis: Redis, limit: int = 1000) -> list[State]:
    """The entries, those that run soonest first, those that are done last; `limit` at most."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.ENTRIES, 0, limit - 1, withscores=True)
        pipe.srandmember(keys.DECLARED, limit)
        listed, declared = answers(pipe)
    scores = {raw.decode(errors="backslashreplace"): score for raw, score in listed or ()}
    done = {text(raw) for raw in declared or ()} - scores.keys()  # or beyond the limit
    return _states(redis, scores, [*scores, *sorted(done)][:limit])


def find(redis: Redis, name: str) -> State:
    """One entry of SCHEDULE.  Raises UnknownEntry."""
    entry_id = _known(redis, name)
    score = answer(redis.zscore, keys.ENTRIES, entry_id)
    [state] = _states(redis, {} if score is None else {entry_id: score}, [entry_id])
    return state


def history(redis: Redis, name: str, limit: int = 100) -> list[Run]:
    """The last `limit` runs of an entry, newest first.  Raises UnknownEntry, and InvalidValue."""
    if type(limit) is not int or limit < 1:
        raise InvalidValue("limit", limit, "how many runs to show, from 1")
    entry_id = _known(redis, name)
    return _runs(entry_id, answer(redis.lrange, keys.ticks(entry_id), 0, limit - 1))


def _runs(entry_id: str, lines: Sequence[bytes] | None) -> list[Run]:
    runs = (_or(partial(run_of, entry_id, line(raw)), None) for raw in lines or ())
    return [run for run in runs if run]


def pause(
    redis: Redis, name: str, *, who: str, why: str, until: clock.Duration | datetime | None = None
) -> datetime | None:
    """Let the entry's runs be skipped until `resume`, or `until`; return when that is."""
    entry_id = _known(redis, name)
    stored, end = pause_json(who, why, until, redis_io.now(redis))
    redis.hset(keys.entry_state(entry_id), "paused", stored)
    return end


def pause_json(
    who: str, why: str, until: clock.Duration | datetime | None, now: datetime
) -> tuple[str, datetime | None]:
    """A pause as Redis keeps it, also of a queue or a function; and when it ends.

    `until` is a time with its zone, or how long from `now` on, by Redis' clock, which ends it.
    Raises InvalidValue.
    """
    end: datetime | None
    if isinstance(until, str):
        end = _end(until, now)
    elif until is None or isinstance(until, datetime):
        end = until
    else:
        end = now + timedelta(seconds=clock.seconds(until, "until"))
    if end is not None:
        if end.tzinfo is None or end <= now:
            raise InvalidValue("until", end.isoformat(), "a time in the future, with its zone")
        clock.in_calendar(end, "until")
    paused = {"who": _line("who", who), "why": _line("why", why), "since": now.timestamp()}
    return json.dumps(paused | {"until": end and end.timestamp()}), end


def _end(text: str, now: datetime) -> datetime:
    """A bare number is refused: 10 would be seconds, and people mean minutes."""
    with suppress(ValueError):
        return clock.read(text)
    with suppress(InvalidValue):
        if not text.strip().isdecimal():
            return now + timedelta(seconds=clock.seconds(text))
    must = "a duration, such as 10m or 2h, or a time such as 2030-01-31T06:00:00+01:00"
    raise InvalidValue("until", text, must)


def read_pause(raw: bytes, now: datetime) -> Paused | None:
    """What `pause_json` has written; None if its time has passed, by Redis' clock, or it is odd."""
    try:
        stored = values.value(raw)
        until = None if stored["until"] is None else clock.from_wall(stored["until"])
        who, why = (clip(str(stored[name]), _LONGEST_TEXT) for name in ("who", "why"))
        found = Paused(who, why, clock.from_wall(stored["since"]), until)
    except _ODD:
        return None
    return None if until is not None and until <= now else found


def resume(redis: Redis, name: str) -> bool:
    """End a pause; return False if there was none.  Raises UnknownEntry."""
    return redis.hdel(keys.entry_state(_known(redis, name)), "paused") == 1


def skip_next(redis: Redis, name: str, count: int = 1) -> None:
    """Let the next `count` runs be skipped, at most MOST_SKIPPED; 0 takes that back."""
    if type(count) is not int or not 0 <= count <= MOST_SKIPPED:
        raise InvalidValue("count", count, f"how many runs to skip, from 0 to {MOST_SKIPPED}")
    redis.hset(keys.entry_state(_known(redis, name)), "skip", count)


def run_now(redis: Redis, name: str, who: str) -> str:
    """Enqueue a job of the entry now, also while it is paused; return the job's id."""
    entry_id, reason = _known(redis, name), f"by {_line('who', who)}"
    fields: Any = redis.hget(keys.job(entry_id), keys.RUN_FIELD)
    if not fields:
        raise ResponseError(f"the job of {name} was deleted from Redis: restart the scheduler")
    slot = redis_io.now(redis)
    job_id = job_id_of(entry_id, slot, is_asked_for=True)
    run = [slot.timestamp(), line_of("n", slot, reason=reason), job_id]
    plan = {"id": entry_id, "runs": [run], "fields": json.loads(fields), "asked": True}
    [answer] = run_script(redis, "entry_run", [keys.IN_FORCE], ["", json.dumps(plan)])
    if isinstance(answer, bytes):
        raise ResponseError(answer.decode())
    return job_id


def entry_id_of(name: str) -> str:
    """The id of the entry `name`: RQ takes letters, digits, dashes and underscores only."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        must = f"at most {_LONGEST_NAME} letters, digits, dots, dashes and underscores"
        raise InvalidValue("name", name, must)
    return _ID_PREFIX + name.replace(".", "-")


def job_id_of(entry_id: str, slot: datetime, *, is_asked_for: bool = False) -> str:
    """The id of the job of a slot: the same, whichever scheduler enqueues it."""
    name = entry_id.removeprefix(_ID_PREFIX)
    return (
        f"{name}-now-{slot:%Y%m%dT%H%M%S%f}Z" if is_asked_for else f"{name}-{slot:%Y%m%dT%H%M%SZ}"
    )


def line_of(kind: str, slot: datetime, *, late_ms: int = 0, reason: str = "") -> str:
    """A run as a line of the history: kind|slot|late ms|outcome|duration ms|reason.

    Kinds: t(ime has come), n(ow: asked for), s(kipped), m(issed).
    """
    when = f"{slot.timestamp():.6f}".rstrip("0").rstrip(".")
    return f"{kind}|{when}|{late_ms}|||{reason}"


def run_of(entry_id: str, line: str) -> Run:
    """The run that a line of the history describes.  Raises ValueError, or OverflowError."""
    kind, when, late, outcome, took_ms, reason = line.split("|", 5)
    slot, has_job = clock.from_wall(float(when.partition("+")[0])), kind in "tn"
    return Run(
        slot=slot,
        outcome=_OUTCOMES.get(kind) or outcome or "open",
        job_id=job_id_of(entry_id, slot, is_asked_for=kind == "n") if has_job else None,
        late_ms=int(late) if has_job else None,
        duration_s=int(took_ms) / 1000 if took_ms else None,
        reason=reason or None,
    )


def follow_up(redis: Redis, now: datetime) -> tuple[list[tuple[str, Run]], bool]:
    """Complete the history with how jobs ended, which running a job does not write.

    Returns those that have ended, each with its entry's id, and whether more wait to be looked at.
    Of several schedulers that do this at once, one returns a job.
    """
    due_s = now.timestamp()
    found = answer(redis.zrangebyscore, keys.OPEN_TICKS, "-inf", due_s, 0, _AT_A_TIME)
    if found is None:  # not data of ours
        redis.delete(keys.OPEN_TICKS)
        return [], False
    members = [one for raw in found if (one := _or(partial(_open_run, raw), None))]
    with redis.pipeline(transaction=False) as pipe:
        if odd := set(found) - {" ".join(one).encode() for one in members}:
            pipe.zrem(keys.OPEN_TICKS, *odd)
            pipe.execute()
        for _, job_id, _ in members:
            pipe.hmget(keys.job(job_id), _END_FIELDS)
        jobs = [job or [None] * len(_END_FIELDS) for job in answers(pipe)]
    replaced = {job_id for (_, job_id, _), job in zip(members, jobs, strict=True) if job[-1]}
    _end_replaced(redis, replaced)
    ended, ends = [], []
    with redis.pipeline() as pipe:  # in one step: another scheduler may do the same
        for (entry_id, job_id, line), job in zip(members, jobs, strict=True):
            member, ticks = f"{entry_id} {job_id} {line}", keys.ticks(entry_id)
            if (complete := _completed(line, job)) is None:
                latest_s = _SOONEST_S if job_id in replaced else _LATEST_S
                age_s = (now - run_of(entry_id, line).slot).total_seconds()
                again = {member: due_s + min(max(age_s / 4, _SOONEST_S), latest_s)}
                pipe.zadd(keys.OPEN_TICKS, again, xx=True)
                continue
            ends.append(len(pipe))
            ended.append((entry_id, run_of(entry_id, complete)))
            pipe.zrem(keys.OPEN_TICKS, member)
            pipe.linsert(ticks, "BEFORE", line, complete)
            pipe.lrem(ticks, 1, line)
        replies = answers(pipe)
    mine = [run for run, at in zip(ended, ends, strict=True) if replies[at] == 1]
    return mine, len(found) == _AT_A_TIME


def _end_replaced(redis: Redis, job_ids: Collection[str]) -> None:
    """Stop or cancel runs that the next ones have replaced and that go on, or begin anew: their
    workers have not heard that, or died."""
    if job_ids:
        run_script(redis, "entry_run", [keys.IN_FORCE], ["replaced", *job_ids])


def _open_run(raw: bytes) -> list[str]:
    """Entry, job and line of a run.  Raises ValueError, or OverflowError, for what is none."""
    entry_id, job_id, line = raw.decode().split(" ", 2)
    run_of(entry_id, line)
    return [entry_id, job_id, line]


def _completed(line: str, job: Sequence[bytes | None]) -> str | None:
    """The line with how its job ended; None if it has not."""
    status, started, ended, why, _ = ((raw or b"").decode("utf-8", "replace") for raw in job)
    kind, when, late_ms, _, _, reason = line.split("|", 5)
    took_ms = ""
    if status and status not in ENDED:
        return None
    with suppress(ValueError):  # odd times
        if started and ended:
            took_ms = f"{(utcparse(ended) - utcparse(started)).total_seconds() * 1000:.0f}"
    if status == "canceled" and why:
        # In the others it says why they were tried again.
        reason = reason_of(why)[:_LONGEST_REASON]
    return f"{kind}|{when}|{late_ms}|{status or 'gone'}|{took_ms}|{reason}"


def _known(redis: Redis, name: str) -> str:
    found = entry_id_of(name)
    if answer(redis.sismember, keys.DECLARED, found) or answer(
        redis.hexists, keys.job(found), keys.POLICY_FIELD
    ):
        return found
    declared = [text(raw) for raw in answer(redis.smembers, keys.DECLARED) or ()]
    if name not in declared and answer(redis.zscore, keys.ENTRIES, name) is not None:
        raise UnknownEntry(name, is_foreign=True)
    hashes = values.peek(redis, [*map(keys.job, declared)], [keys.TICK_OF_FIELD], values.SHORT)
    names = [read(keys.TICK_OF_FIELD, line, "") for read in hashes if read]
    near = difflib.get_close_matches(name[:300], names, 1)
    raise UnknownEntry(name, near[0] if near else None)


def _line(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_TEXT:
        raise InvalidValue(name, value, f"a string of at most {_LONGEST_TEXT} characters")
    # Half a character, as a shell in another encoding may pass it on, is one that nothing can read.
    return " ".join(value.encode(errors="replace").decode().split())


def _states(redis: Redis, scores: Mapping[str, float], ids: Sequence[str]) -> list[State]:
    with redis.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.hmget(keys.job(entry_id), *_SHOWN_FIELDS)
            pipe.hmget(keys.entry_state(entry_id), "paused", "skip")
            pipe.lrange(keys.ticks(entry_id), 0, _RECENT - 1)
        pipe.time()
        *facts, (now_s, _) = answers(pipe)
    found, now = iter(facts), clock.from_wall(now_s)
    return [_state(entry_id, scores.get(entry_id), now, *more)
            for entry_id, *more in zip(ids, found, found, found, strict=True)]  # fmt: skip


def _state(
    entry_id: str, score: float | None, now: datetime, job: Any, state: Any, runs: Any
) -> State:
    shown, call, queue, meta, name = job or [None] * len(_SHOWN_FIELDS)
    paused, skip = state or (None, None)
    skipped = _or(lambda: number(skip), None) or 0
    return State(
        name=line(name) or clip(entry_id, _LONGEST_NAME),
        id=clip(entry_id, values.SHORT),
        call=masked_text(line(call)),
        words=_or(lambda: _words(shown, meta), "unreadable" if shown else "by rq-scheduler"),
        queue=line(queue) or "default",
        next_at=values.due(score),
        is_of_table=bool(shown),
        is_done=score is None,
        paused=read_pause(paused, now) if paused else None,
        skip=skipped if skipped <= MOST_SKIPPED else 0,  # nor does it count for a scheduler
        recent=tuple(_runs(entry_id, runs)),
    )


def _or(parse: Callable[[], T], otherwise: T) -> T:
    """What `parse` makes of what Redis holds, or `otherwise` where that is odd."""
    try:
        return parse()
    except _ODD:
        return otherwise


def _words(shown: bytes | None, meta: bytes | None) -> str:
    """The times; of an entry of rq-scheduler's, if they can be read without running anything."""
    if shown:
        return clip(str(values.value(shown)["words"]), 300)
    stored = values.value(meta) if meta else {}
    if stored.get("cron_string"):
        return clip(f"cron '{stored['cron_string']}'", 300)
    return f"every {clock.in_words(stored['interval'])}" if stored.get("interval") else "once"
