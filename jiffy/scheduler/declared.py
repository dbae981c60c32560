"""The entries that a table made, as they stand in Redis: put there, read again, taken away."""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, keys, ticks
from jiffy.errors import JiffyError
from jiffy.redis_io import script
from jiffy.scheduler import due, timing
from jiffy.scheduler.due import Found
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.timing import At

_IN_ONE_GO = 500  # entries in one exchange with Redis
_KEPT_S = 30 * 86400  # what happened to an entry, after it left the table
_RETIMED = "its times were changed before it was enqueued"


class Declared(NamedTuple):
    """What Redis holds of an entry of the table; "" for what cannot be read, or is deleted."""

    name: str
    definition: str
    timing: str


class Missed(NamedTuple):
    """A slot that will have no job, and why."""

    slot: datetime
    reason: str


class Verdict(NamedTuple):
    """What declaring an entry has changed: it is "new", "changed", "same" or "over"."""

    what: str
    missed: Sequence[Missed] = ()


class Table(NamedTuple):
    """Which table is in force, by a digest of it, and since when."""

    digest: str
    since: datetime


def declare(
    redis: Redis, entries: Sequence[Entry], now: datetime, *, only_deleted: bool = False
) -> list[Verdict]:
    """Make the entries what the table says; with `only_deleted` those that somebody deleted while
    they are on the schedule, and no other.

    One that was there keeps its next time, unless its times have changed; then it keeps what is due
    already, if that is among the new times, too.  One that is done stays done.  "over": it was not
    known like this, and none of its times is left.
    """
    verdicts: dict[str, Verdict] = {}
    for first in range(0, len(entries), _IN_ONE_GO):
        plans = [_plan(entry, None, now) for entry in entries[first : first + _IN_ONE_GO]]
        while plans:
            again = []
            answers = _tell(redis, plans, now, only_deleted=only_deleted)
            for plan, (what, *more) in zip(plans, answers, strict=True):
                if what == b"listed":
                    again.append(_plan(plan.entry, _listed(plan.entry, *more), now))
                else:
                    verdicts[plan.entry.id] = Verdict(what.decode(), plan.missed[: more[0]])
            plans = again
    return [verdicts[entry.id] for entry in entries]


def read(redis: Redis) -> dict[str, Declared]:
    """The entries that a table made, by their ids."""
    members: Any = ()
    with suppress(ResponseError):  # it is no set
        members = redis.smembers(keys.DECLARED)
    ids = sorted(raw.decode("utf-8", "replace") for raw in members)
    with redis.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.hmget(keys.job(entry_id), *_FIELDS)
        told = pipe.execute(raise_on_error=False)
    return {entry_id: _declared(entry_id, hash_) for entry_id, hash_ in zip(ids, told, strict=True)}


_FIELDS = (keys.TICK_OF_FIELD, keys.ENTRY_FIELD, keys.TIMING_FIELD)


def _declared(entry_id: str, told: Any) -> Declared:
    """`told` is an error where it is no hash."""
    raw = told if isinstance(told, list) else [None] * len(_FIELDS)
    name, *rest = (_text(value) for value in raw)
    return Declared(name or entry_id, *rest)


def withdraw(redis: Redis, entry_id: str) -> None:
    """Take an entry off the schedule; its jobs stay, and for a month its state and its history."""
    with redis.pipeline() as pipe:
        pipe.zrem(keys.ENTRIES, entry_id)
        pipe.srem(keys.DECLARED, entry_id)
        pipe.delete(keys.job(entry_id))
        pipe.expire(keys.entry_state(entry_id), _KEPT_S)
        pipe.expire(keys.ticks(entry_id), _KEPT_S)
        pipe.execute()


def in_force(redis: Redis) -> Table | None:
    """The table that was put in force last; None where Redis has forgotten that."""
    with suppress(ResponseError, ValueError, TypeError, KeyError):  # somebody's nonsense
        told = json.loads(redis.get(keys.IN_FORCE) or "")
        return Table(told["table"], clock.from_wall(told["since"]))
    return None


def put_in_force(redis: Redis, table: Table) -> None:
    told = {"table": table.digest, "since": table.since.timestamp()}
    redis.set(keys.IN_FORCE, json.dumps(told))


def digest(entries: Sequence[Entry]) -> str:
    """Another one for another table."""
    lines = sorted(
        json.dumps([entry.told(), entry.timing.text], sort_keys=True) for entry in entries
    )
    return blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


class _Plan(NamedTuple):
    """When an entry is due next, None for never again; and when it was `seen` to be, "" for not."""

    entry: Entry
    seen: str
    coming: float | None
    missed: Sequence[Missed]


def _plan(entry: Entry, listed: Found | None, now: datetime) -> _Plan:
    missed: list[Missed] = []
    seen = ""
    if listed:
        seen, (slot, are_same_times) = repr(listed.score), _slot(entry, listed)
        is_slot, has_come = entry.timing.has(slot), slot <= now
        if is_slot and (are_same_times or has_come):
            kept = entry.policy.due(entry.id, slot).timestamp()
            return _Plan(entry, seen, kept, [])
        if are_same_times:  # somebody has moved it
            return _Plan(entry, seen, listed.score, [])
        missed += [Missed(slot, _RETIMED)] if has_come else []
    coming = entry.next_due(now)
    if coming is None and isinstance(entry.timing, At):
        missed.append(Missed(entry.timing.moment, ticks.TOO_LATE))
    return _Plan(entry, seen, coming, missed)


def _slot(entry: Entry, listed: Found) -> tuple[datetime, bool]:
    """The slot that the entry waits for, and whether its times are those of the table."""
    try:
        is_same = timing.decode(listed.text.decode()).identity == entry.timing.identity
        return due.slot_of(listed), is_same
    except (ValueError, TypeError, KeyError, JiffyError):  # it was deleted, or is nonsense
        own = entry.fields(clock.from_wall(listed.score))
        texts = (own[name].encode() for name in (keys.TIMING_FIELD, keys.POLICY_FIELD))
        return due.slot_of(Found(entry.id, listed.score, "table", *texts)), False


def _tell(
    redis: Redis, plans: Sequence[_Plan], now: datetime, *, only_deleted: bool
) -> Sequence[Any]:
    """Let `entry_declare.lua` do it; return what it answers of each."""
    step = script(redis, "entry_declare")
    with redis.pipeline(transaction=False) as pipe:
        for entry, seen, coming, missed in plans:
            hashes = [keys.job(entry.id), keys.entry_state(entry.id), keys.ticks(entry.id)]
            lines = [ticks.line_of("m", slot, slot, reason=reason) for slot, reason in missed]
            told = [
                entry.id, seen, "" if coming is None else repr(coming), entry.policy.repeat or 0,
                json.dumps(lines), int(only_deleted),
                *(part for pair in entry.fields(now).items() for part in pair),
            ]  # fmt: skip
            step([keys.ENTRIES, *hashes, keys.DECLARED, keys.SCHEDULE_WAKE], told, client=pipe)
        answers: list[Any] = pipe.execute()
    return answers


def _listed(entry: Entry, score: bytes, timing: bytes, policy: bytes) -> Found | None:
    return Found(entry.id, float(score), "table", timing, policy) if score else None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")
