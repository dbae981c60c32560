"""The entries that a table made, as they stand in Redis: put there, read again, taken away."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from redis import Redis

from jiffy import keys, ticks
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.timing import At
from jiffy.scripts import script

_IN_ONE_GO = 500  # entries in one exchange with Redis
_KEPT_S = 30 * 86400  # what happened to an entry, after it left the table


class Declared(NamedTuple):
    """What Redis holds of an entry of the table; "" for what somebody has deleted."""

    name: str
    definition: str
    timing: str


def declare(redis: Redis, entries: Sequence[Entry], now: datetime) -> list[str]:
    """Make the entries what the table says; return "new", "changed", "same" or "over" for each.

    One that was there keeps its next time, unless it is its times that changed; one that is done
    stays done.  "over": it was not known like this, and none of its times is left.
    """
    step, verdicts = script(redis, "entry_declare"), []
    for first in range(0, len(entries), _IN_ONE_GO):
        with redis.pipeline(transaction=False) as pipe:
            for entry in entries[first : first + _IN_ONE_GO]:
                step(*_keys_and_arguments(entry, now), client=pipe)
            verdicts += [answer.decode() for answer in pipe.execute()]
    return verdicts


def read(redis: Redis) -> dict[str, Declared]:
    """The entries that a table made, by their ids."""
    members: Any = redis.smembers(keys.DECLARED)
    ids = sorted(raw.decode() for raw in members)
    fields = (keys.TICK_OF_FIELD, keys.ENTRY_FIELD, keys.TIMING_FIELD)
    with redis.pipeline(transaction=False) as pipe:
        for entry_id in ids:
            pipe.hmget(keys.job(entry_id), *fields)
        told = [[(raw or b"").decode() for raw in hash_] for hash_ in pipe.execute()]
    return {
        entry_id: Declared(name or entry_id, *rest)
        for entry_id, (name, *rest) in zip(ids, told, strict=True)
    }


def withdraw(redis: Redis, entry_id: str) -> None:
    """Take an entry off the schedule; its jobs stay, and for a month its state and its history."""
    with redis.pipeline() as pipe:
        pipe.zrem(keys.ENTRIES, entry_id)
        pipe.srem(keys.DECLARED, entry_id)
        pipe.delete(keys.job(entry_id))
        pipe.expire(keys.entry_state(entry_id), _KEPT_S)
        pipe.expire(keys.ticks(entry_id), _KEPT_S)
        pipe.execute()


def _keys_and_arguments(entry: Entry, now: datetime) -> tuple[list[str], list[Any]]:
    """For `entry_declare.lua`."""
    coming = entry.next_due(now)
    hashes = [keys.job(entry.id), keys.entry_state(entry.id), keys.ticks(entry.id)]
    fields = [part for pair in entry.fields(now).items() for part in pair]
    return (
        [keys.ENTRIES, *hashes, keys.DECLARED, keys.SCHEDULE_WAKE],
        [entry.id, coming or "", entry.policy.repeat or 0, _too_late(entry, now), *fields],
    )


def _too_late(entry: Entry, now: datetime) -> str:
    """The line of its history for an entry whose only time is over before it is declared."""
    if not isinstance(entry.timing, At) or entry.timing.moment > now:
        return ""
    slot = entry.timing.moment
    return ticks.line_of("m", slot, slot, reason=ticks.TOO_LATE)
