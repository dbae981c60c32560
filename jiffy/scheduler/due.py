"""What a tick of an entry is: decided here, from the entry's hash and the time; done elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rq.job import JobStatus
from rq.utils import utcformat

from jiffy import keys
from jiffy.scheduler import foreign, timing

RawHash = Mapping[bytes, bytes]

_RQ_TIMEOUT_S = 180  # what RQ gives a job that asks for none
_NOT_COPIED = {keys.ENTRY_FIELD, keys.TIMING_FIELD, "created_at", "meta"}


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One slot of one entry: the job to enqueue for it, and when the entry is due next."""

    entry_id: str
    name: str
    slot: float
    next_slot: float | None
    job_id: str
    queue: str
    at_front: bool
    ttl_s: int | None
    fields: dict[str, bytes | str | int]


def tick(entry_id: str, slot: float, raw: RawHash, now: datetime) -> Tick:
    """The tick that is due at `slot` of the entry whose hash is `raw`.

    Ticks missed while no scheduler was alive are this one: the next comes after `now`.  An entry of
    the table gets a fresh job; one made through rq-scheduler's API is the job itself, as there.
    Raises ValueError, TypeError, KeyError or JiffyError for a hash that makes no sense.
    """
    stored = {key.decode(): value for key, value in raw.items()}
    if keys.TIMING_FIELD in stored:
        return _of_the_table(entry_id, slot, stored, now)
    return _of_others(entry_id, slot, stored, now)


def moment(score: float) -> datetime:
    """The moment that a score in rq-scheduler's sorted set stands for."""
    return timing.EPOCH + timedelta(seconds=score)


def _of_the_table(entry_id: str, slot: float, stored: dict[str, bytes], now: datetime) -> Tick:
    told = json.loads(stored[keys.ENTRY_FIELD])
    due = timing.decode(stored[keys.TIMING_FIELD].decode())
    next_slot = due.next_after(max(now, moment(slot))).timestamp()
    own: dict[str, bytes | str | int] = {
        "created_at": utcformat(now),
        keys.TICK_OF_FIELD: told["name"],
    }
    if told["meta"]:
        own["meta"] = json.dumps(told["meta"])
    job_id = f"{entry_id.removeprefix('entry-')}-{moment(slot):%Y%m%dT%H%M%SZ}"
    copied = {key: value for key, value in stored.items() if key not in _NOT_COPIED}
    return _tick(entry_id, told["name"], slot, next_slot, job_id, copied | own, now)


def _of_others(entry_id: str, slot: float, stored: dict[str, bytes], now: datetime) -> Tick:
    due = moment(slot)
    coming, meta = foreign.next_time(stored.get("meta"), due, max(now, due))
    fields: dict[str, bytes | str | int] = dict(stored)
    if meta is not None:
        fields["meta"] = meta
    next_slot = None if coming is None else coming.timestamp()
    return _tick(entry_id, entry_id, slot, next_slot, entry_id, fields, now)


def _tick(
    entry_id: str,
    name: str,
    slot: float,
    next_slot: float | None,
    job_id: str,
    fields: dict[str, Any],
    now: datetime,
) -> Tick:
    """Mirrors rq.Queue.enqueue_job for a job that waits for no other."""
    if not fields["data"]:
        raise ValueError("its job has no data")
    origin = fields.get("origin", b"default").decode()
    queued = {"status": JobStatus.QUEUED.value, "enqueued_at": utcformat(now), "origin": origin}
    ttl_s = int(fields["ttl"]) if fields.get("ttl") else None
    return Tick(
        entry_id=entry_id,
        name=name,
        slot=slot,
        next_slot=next_slot,
        job_id=job_id,
        queue=origin,
        at_front=fields.get("enqueue_at_front") == b"1",
        ttl_s=ttl_s,
        fields={"timeout": _RQ_TIMEOUT_S} | fields | queued,
    )
