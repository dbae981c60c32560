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
Stored = dict[str, bytes]

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
    fields: dict[str, Any]  # of the job's hash

    @property
    def queue(self) -> str:
        return str(self.fields["origin"])

    @property
    def at_front(self) -> bool:
        return bool(self.fields.get("enqueue_at_front") == b"1")

    @property
    def ttl_s(self) -> int | None:
        return int(self.fields["ttl"]) if self.fields.get("ttl") else None


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


def _of_the_table(entry_id: str, slot: float, stored: Stored, now: datetime) -> Tick:
    told = json.loads(stored[keys.ENTRY_FIELD])
    due = timing.decode(stored[keys.TIMING_FIELD].decode())
    coming = due.next_after(max(now, moment(slot)))
    fields: dict[str, Any] = {key: stored[key] for key in stored.keys() - _NOT_COPIED}
    fields |= {"created_at": utcformat(now), keys.TICK_OF_FIELD: told["name"]}
    if told["meta"]:
        fields["meta"] = json.dumps(told["meta"])
    return Tick(
        entry_id=entry_id,
        name=told["name"],
        slot=slot,
        next_slot=None if coming is None else coming.timestamp(),
        job_id=f"{entry_id.removeprefix('entry-')}-{moment(slot):%Y%m%dT%H%M%SZ}",
        fields=_queued(fields, now),
    )


def _of_others(entry_id: str, slot: float, stored: Stored, now: datetime) -> Tick:
    due = moment(slot)
    coming, meta = foreign.next_time(stored.get("meta"), due, max(now, due))
    return Tick(
        entry_id=entry_id,
        name=entry_id,
        slot=slot,
        next_slot=None if coming is None else coming.timestamp(),
        job_id=entry_id,
        fields=_queued(stored | ({} if meta is None else {"meta": meta}), now),
    )


def _queued(fields: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Mirrors what rq.Queue.enqueue_job writes of a job that waits for no other."""
    if not fields["data"]:
        raise ValueError("its job has no data")
    return {
        "timeout": _RQ_TIMEOUT_S,
        **fields,
        "status": JobStatus.QUEUED.value,
        "enqueued_at": utcformat(now),
        "origin": fields.get("origin", b"default").decode(),
    }
