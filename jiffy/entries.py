"""The schedule's entries as they stand, what became of their ticks, and what one may do to them.

For pages, scripts and shells.  What the entries are is said by the table in `scheduler.py`; what is
done to one here lasts through deploys.
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, keys
from jiffy.errors import InvalidValue, UnknownEntry
from jiffy.redis_io import script
from jiffy.ticks import Tick, entry_id_of, job_id_of, line_of, name_in, tick_of

T = TypeVar("T")

_LONGEST_TEXT = 200
MOST_SKIPPED = 1000


@dataclass(frozen=True)
class Pause:
    """Who paused an entry and why; it ends by itself if there is an `until`."""

    who: str
    why: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class State:
    """An entry as it stands."""

    name: str
    id: str
    call: str  # in words, without secrets
    words: str  # its times
    queue: str
    next_at: datetime | None
    is_of_table: bool  # or made through rq-scheduler's API
    is_done: bool  # it will not come again
    paused: Pause | None
    skip: int  # so many next ticks are skipped
    last: Tick | None


class Glance(NamedTuple):
    """The schedule as a whole: does a scheduler see to it ("none": there is nothing to do), how
    many entries are to come, and when the next one is due."""

    scheduler: Literal["ok", "away", "none"]
    entries: int
    next_at: datetime | None


def glance(redis: Redis) -> Glance:
    """In one round trip.  A scheduler that has died is away within some 4 s."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.exists(keys.LEADER)
        pipe.zcard(keys.ENTRIES)
        pipe.zrange(keys.ENTRIES, 0, 0, withscores=True)
        is_led, count, first = pipe.execute()
    next_at = _or_none(lambda: clock.from_wall(first[0][1])) if first else None
    return Glance("ok" if is_led else "away" if count else "none", count, next_at)


def read(redis: Redis, limit: int = 1000) -> list[State]:
    """The entries, those that are due soonest first, those that are done last; `limit` at most."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.ENTRIES, 0, limit - 1, withscores=True)
        pipe.srandmember(keys.DECLARED, limit)
        listed, declared = pipe.execute()
    due = {raw.decode(errors="backslashreplace"): score for raw, score in listed}
    done = {raw.decode() for raw in declared} - due.keys()  # or beyond the limit
    return _states(redis, due, [*due, *sorted(done)][:limit])


def find(redis: Redis, name: str) -> State:
    """One entry of the table.  Raises UnknownEntry."""
    entry_id = _known(redis, name)
    score: Any = redis.zscore(keys.ENTRIES, entry_id)
    [state] = _states(redis, {} if score is None else {entry_id: score}, [entry_id])
    return state


def _states(redis: Redis, due: Mapping[str, float], ids: Sequence[str]) -> list[State]:
    with redis.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.hmget(keys.job(entry_id), *_FIELDS)
            pipe.hmget(keys.entry_state(entry_id), "paused", "skip")
            pipe.lindex(keys.ticks(entry_id), 0)
        found = iter(pipe.execute(raise_on_error=False))
    told = zip(ids, found, found, found, strict=True)
    return [_state(entry_id, due.get(entry_id), *facts) for entry_id, *facts in told]


_FIELDS = (keys.POLICY_FIELD, "description", "origin", "meta")


def history(redis: Redis, name: str, limit: int = 100) -> list[Tick]:
    """The last `limit` ticks of an entry, newest first.  Raises UnknownEntry, and InvalidValue."""
    if type(limit) is not int or limit < 1:
        raise InvalidValue("limit", limit, "how many ticks to show, from 1")
    entry_id = _known(redis, name)
    lines: list[Any] = redis.lrange(keys.ticks(entry_id), 0, limit - 1)
    read = [_tick(entry_id, line) for line in lines]
    return [tick for tick in read if tick]


def moment(text: str) -> datetime:
    """When a pause ends: a time with its zone, or so long from now.  Raises InvalidValue."""
    try:
        return clock.read(text)
    except ValueError:
        pass
    try:
        return clock.now() + timedelta(seconds=clock.seconds(text, "until"))
    except InvalidValue:
        must = "so long, such as 2h, or a time with its zone, such as 2030-01-31T06:00:00+01:00"
        raise InvalidValue("until", text, must) from None


def pause(redis: Redis, name: str, *, who: str, why: str, until: datetime | None = None) -> None:
    """Let the entry's ticks be skipped until `resume`, or `until`.

    Raises UnknownEntry, and InvalidValue for an `until` that is over or has no zone.
    """
    if until is not None:
        if until.tzinfo is None or until <= clock.now():
            raise InvalidValue("until", until.isoformat(), "a time to come, with its zone")
        clock.in_calendar(until, "until")
    told = {
        "who": _text("who", who),
        "why": _text("why", why),
        "since": clock.wall(),
        "until": None if until is None else until.timestamp(),
    }
    redis.hset(keys.entry_state(_known(redis, name)), "paused", json.dumps(told))


def resume(redis: Redis, name: str) -> bool:
    """End a pause; return False if there was none.  Raises UnknownEntry."""
    return redis.hdel(keys.entry_state(_known(redis, name)), "paused") == 1


def skip_next(redis: Redis, name: str, count: int = 1) -> None:
    """Let the next `count` ticks be skipped; 0 takes that back.

    Raises UnknownEntry, and InvalidValue for more than MOST_SKIPPED: `pause` is for that.
    """
    if type(count) is not int or not 0 <= count <= MOST_SKIPPED:
        raise InvalidValue("count", count, f"how many ticks to skip, from 0 to {MOST_SKIPPED}")
    redis.hset(keys.entry_state(_known(redis, name)), "skip", count)


def run_now(redis: Redis, name: str, who: str) -> str:
    """Enqueue a job of the entry now; return its id.  The entry's own times stay as they are.

    It runs also while the entry is paused or its last job runs.  Raises UnknownEntry.
    """
    entry_id = _known(redis, name)
    seconds, micros = redis.time()
    now_s = seconds + micros / 1e6
    slot = clock.from_wall(now_s)
    job_id = job_id_of(entry_id, slot, is_asked_for=True)
    line = line_of("n", slot, slot, late_ms=0, reason=f"by {_text('who', who)}")
    told = [entry_id, "", "", 0, "allow", [], [[line, job_id]]]
    [made] = script(redis, "entry_ticks")(
        [keys.ENTRIES, keys.OPEN_TICKS, keys.QUEUES],
        [now_s, clock.rq_text(now_s), json.dumps(told)],
    )
    if isinstance(made, bytes):
        raise ResponseError(made.decode())
    return job_id


def _known(redis: Redis, name: str) -> str:
    found = entry_id_of(name)
    if not redis.sismember(keys.DECLARED, found):
        is_listed = redis.zscore(keys.ENTRIES, name) is not None
        if is_listed and not redis.sismember(keys.DECLARED, name):
            raise UnknownEntry(name, is_foreign=True)
        near = difflib.get_close_matches(name, _names(redis), 1)
        raise UnknownEntry(name, near[0] if near else None)
    return found


def _names(redis: Redis) -> list[str]:
    with redis.pipeline(transaction=False) as pipe:
        for entry_id in _declared(redis):
            pipe.hget(keys.job(entry_id), keys.TICK_OF_FIELD)
        return [raw.decode() for raw in pipe.execute() if raw]


def _declared(redis: Redis) -> list[str]:
    ids: Any = redis.smembers(keys.DECLARED)
    return [raw.decode() for raw in ids]


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_TEXT:
        raise InvalidValue(name, value, f"a text of at most {_LONGEST_TEXT} characters")
    # Half a character, as a shell in another encoding may pass it on, is one that nothing can read.
    return " ".join(value.encode(errors="replace").decode().split())


def _state(entry_id: str, due: float | None, job: Any, state: Any, line: Any) -> State:
    """From what Redis says, where each part may also be an error: a key of another type."""
    policy, call, queue, meta = (_decoded(raw) for raw in _or_nothing(job, 4))
    paused, skip = _or_nothing(state, 2)
    name, words = _name_and_words(entry_id, policy) if policy else (entry_id, _of_others(meta))
    return State(
        name=name,
        id=entry_id,
        call=call,
        words=words,
        queue=queue or "default",
        next_at=None if due is None else _or_none(lambda: clock.from_wall(due)),
        is_of_table=bool(policy),
        is_done=due is None,
        paused=_or_none(lambda: _pause(json.loads(paused))) if paused else None,
        skip=_or_none(lambda: int(skip or 0)) or 0,
        last=_tick(entry_id, line) if isinstance(line, bytes) else None,
    )


def _or_nothing(answer: Any, count: int) -> Sequence[bytes | None]:
    return answer if isinstance(answer, list) else [None] * count


def _decoded(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def _or_none(read: Callable[[], T]) -> T | None:
    """What `read` makes of what stands in Redis; None where that is corrupt."""
    try:
        return read()
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        return None


def _tick(entry_id: str, line: bytes) -> Tick | None:
    return _or_none(lambda: tick_of(entry_id, _decoded(line)))


def _name_and_words(entry_id: str, policy: str) -> tuple[str, str]:
    told = _or_none(lambda: json.loads(policy))
    if not isinstance(told, dict):
        return name_in(entry_id), "cannot be read"
    return str(told.get("name", name_in(entry_id))), str(told.get("words", ""))


def _of_others(meta: str) -> str:
    """The times of an entry of rq-scheduler's, if its meta can be read without running anything."""
    try:
        told = json.loads(meta or "{}")
        if told.get("cron_string"):
            return f"cron '{told['cron_string']}'"
        return f"every {clock.in_words(told['interval'])}" if told.get("interval") else "once"
    except (ValueError, TypeError, AttributeError):
        return "by rq-scheduler"


def _pause(told: Mapping[str, Any]) -> Pause | None:
    until = None if told["until"] is None else clock.from_wall(told["until"])
    if until is not None and until <= clock.now():
        return None
    return Pause(told["who"], told["why"], clock.from_wall(told["since"]), until)
