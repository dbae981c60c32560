"""Jobs on their way into Redis: what those of one function with the same options have in common,
and the one way to write them, alone, in chunks, or as parts of a workflow.

What is written here travels as JSON, so that reading a job never runs code.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from datetime import timedelta
from typing import Any, NamedTuple

import rq
from rq.defaults import DEFAULT_RESULT_TTL

from jiffy import clock, hooks, keys, redis_io, rq_compat
from jiffy.errors import (
    CallTooLarge,
    DuplicateJob,
    InvalidValue,
    JiffyError,
    RedisAway,
    RedisFull,
    WrongArguments,
)
from jiffy.producer import options as job_options
from jiffy.producer import payload
from jiffy.producer.functions import Args, Function, Kwargs
from jiffy.producer.job import Job, Queue, fill, made_of, stand_in
from jiffy.redis_io import pack

# A call whose reply was lost is repeated within seconds.  A job that may be gone by then is
# remembered for a minute; the others are known by their hash.
_REMEMBERED_S, _GONE_WITHIN_S = 60, 30
# Large enough that the round trip does not count, small enough that Redis is never held up long.
MOST_JOBS, MOST_BYTES = 1000, 1_000_000
_MOST_WAITS = 10_000  # of jobs for others, in one script
WRITE_EVERY_S = 0.2  # a call that comes so long after the last ones were written is not kept


class Recipe:
    """What all jobs of one function with the same options have in common, put together once."""

    def __init__(
        self, function: Function, options: Kwargs, around: Sequence[hooks.AroundJob] = ()
    ) -> None:
        """`options`: what `options.read` returns."""
        self.target, self.options, self.around = payload.target(function), options, around
        self._last_changed: tuple[Kwargs, Recipe] = {}, self
        self.queue: str = options.get("queue", "default")
        self.is_late = "in_" in options or "at" in options
        self.waits = "depends_on" in options or ("rate_limit" in options and not self.is_late)
        self.is_front = options.get("at_front") or any(
            getattr(one, "enqueue_at_front", False) for one in options.get("depends_on", ())
        )
        fields = self.fields = dict[str, Any]()
        for name, value in options.items():
            fields |= job_options.TABLE[name].fields(value)
        fields.setdefault("timeout", rq.Queue.DEFAULT_TIMEOUT)
        if "unique" in options and "unique_until" not in options:
            # For so long other calls are given its id: it must not be gone by then.
            unique_s = math.ceil(options["unique"])
            if unique_s > DEFAULT_RESULT_TTL:
                fields.setdefault("result_ttl", unique_s)
        if self.is_front and (self.is_late or self.waits):
            fields["enqueue_at_front"] = 1
        if self.target.secrets:
            fields[keys.MASKED_FIELD] = self.target.secrets
        sizes = {
            "meta": len(fields.get("meta", "")),
            "description": len(options.get("description", "")),
        }
        if sum(sizes.values()) > self.target.most_bytes:
            largest = max(sizes, key=sizes.__getitem__)
            raise CallTooLarge(
                self.target.path, sum(sizes.values()), self.target.most_bytes, largest
            )
        self._pack()

    def having(self, fields: Kwargs) -> "Recipe":
        """A copy whose jobs have these fields, too.  Equal ones in a row share it, and a chunk."""
        last, changed = self._last_changed
        if fields != last:
            changed = copy(self)
            changed.fields = {**self.fields, **fields}
            changed._pack()
            self._last_changed = fields, changed
        return changed

    @property
    def is_wrapped(self) -> bool:
        """Whether something is called around the enqueueing of its jobs; see `wrapped`."""
        return bool(self.around) or rq_compat.is_replaced(Queue, "enqueue_job")

    def call(self, args: Args, kwargs: Kwargs, *, takes_results: bool = False) -> payload.Call:
        """The call, checked; `takes_results`: `result` may be among the arguments."""
        call = self.target.call(args, kwargs)
        if payload.MARK in call.data:
            if not takes_results:
                raise WrongArguments(
                    f"{self.target.path}: `result` is only for the parts of a chain or group; this "
                    "call has no part before it."
                )
            # Anyone's JSON may look like it, and must not be given what an earlier part returned.
            if call.data.count(payload.MARK) != payload.count_results([args, kwargs]):
                raise WrongArguments(
                    f"{self.target.path}: {payload.MARK} among the arguments looks like `result`. "
                    "Pass `result` itself, or other data."
                )
        described = self.options.get("description")
        return call if described is None else call._replace(description=described)

    def job(self, job_id: str, load: Callable[[Job], object] = Job.refresh, **known: Any) -> Job:
        """A job of this recipe, which `load` reads once more than its id is used."""
        job: Job = stand_in(
            job_id, redis_io.shared(), load, origin=self.queue,
            result_ttl=self.fields.get("result_ttl"), function=self.target.function, **known,
        )  # fmt: skip
        return job

    def command(
        self,
        jobs: Sequence["Prepared"],
        now: str,
        token: str = "",
        needs: Sequence[object] | None = None,
    ) -> bytes:
        """The command that writes jobs of this recipe; `token` and `needs`: see `enqueue.lua`."""
        if needs is None and self.waits:
            needs = "", "", 0, ""
        when = "waits" if needs else str(self._due()) if self.is_late else ""
        # Packed here: with `pack`, it would take half as long again.
        parts = [f"${len(one)}\r\n{one}\r\n" for one in (token, when, now)]
        for _, (data, text), job_id, _ in jobs:
            size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            parts.append(
                f"${len(job_id)}\r\n{job_id}\r\n${len(data)}\r\n{data}\r\n${size}\r\n{text}\r\n"
            )
            if self._is_unique:
                given = self.options.get("unique_key")
                call = f"call {self.target.canonical(data)}" if given is None else ""
                what = call or f"key {self.target.path} {given}"
                raw = what.encode("utf-8", "surrogatepass")  # the name of a file may be any bytes
                key = keys.unique(hashlib.sha256(raw).hexdigest()[:32])
                parts.append(f"${len(key)}\r\n{key}\r\n")
        written = "".join(parts).encode("utf-8", "replace")
        count = self._count + len(jobs) * (4 if self._is_unique else 3)
        if needs:
            written, count = written + pack(needs), count + len(needs)
        return redis_io.prepacked("enqueue", count, self._head + written)

    def _pack(self) -> None:
        options, self._last_changed = self.options, ({}, self)
        self._is_unique = "unique" in options
        lasts = [options[ttl] for ttl in ("result_ttl", "failure_ttl", "ttl") if ttl in options]
        is_soon_gone = any(0 <= seconds < _GONE_WITHIN_S for seconds in lasts)
        parents = [keys.job(id_) for id_ in json.loads(self.fields.get("dependency_ids", "[]"))]
        self.most_jobs = max(1, min(MOST_JOBS, _MOST_WAITS // max(1, len(parents))))  # in a chunk
        fields = [word for pair in self.fields.items() for word in pair]
        head = [
            1 + len(parents), keys.queue(self.queue), *parents, self.queue,
            "LPUSH" if self.is_front else "RPUSH",
            options.get("ttl", ""), _REMEMBERED_S if is_soon_gone else "",
            max(1, round(options["unique"] * 1000)) if self._is_unique else "",
            options.get("unique_until", ""), len(fields), *fields,
        ]  # fmt: skip
        self._head, self._count = pack(head), len(head) + 3

    def _due(self) -> int:
        # A whole second, as RQ keeps it, and never too early.
        at = self.options.get("at") or clock.now() + timedelta(seconds=self.options["in_"])
        return math.ceil(at.timestamp())


class Prepared(NamedTuple):
    """A call that was checked and is about to be written, as a job with this id."""

    recipe: Recipe
    call: payload.Call
    job_id: str
    is_named: bool = False  # the id is the caller's, so another job may have it

    def job(self) -> Job:
        """The job; it is read from Redis when it is looked at."""
        return self.recipe.job(self.job_id)

    def known_job(self, now: str) -> Job:
        """The job as it is written now, which never asks Redis for that."""
        return self.recipe.job(self.job_id, lambda job: fill(job, self.fields(now)))

    def fields(self, now: str) -> dict[str, Any]:
        """The hash of the job.  Mirrors rq.Job.to_dict as rq.Queue.enqueue_job leaves it."""
        recipe = self.recipe
        fields = {"origin": recipe.queue, "created_at": now, "data": self.call.data}
        is_now = {"status": "queued", "enqueued_at": now}
        fields |= {"status": "scheduled"} if recipe.is_late else is_now
        return fields | recipe.fields | {"description": self.call.description}

    @property
    def token(self) -> str:
        """What says that a call is repeated; a random id does it by itself."""
        return new_id() if self.is_named else ""


def put(one: Prepared) -> Job:
    """Write one call; return its job, or the one that is there in its stead."""
    if not one.recipe.is_wrapped:
        return _write_one(one)
    jobs = list[Job]()
    wrapped(one, lambda changed: jobs.append(_write_one(changed)))
    return jobs[-1] if jobs else one.known_job(rq_now())  # it was kept back


def _write_one(one: Prepared) -> Job:
    now = rq_now()
    command = one.recipe.command((one,), now, one.token)
    taken = _taken(redis_io.deliver(redis_io.shared(), command, one.job_id))
    if not taken:
        return one.job() if one.recipe.waits else one.known_job(now)
    if taken[0] == one.job_id:
        raise DuplicateJob(one.job_id)
    return one.recipe.job(taken[0], is_new=False)  # its job stands for this call, too


def _taken(reply: Any) -> dict[int, str]:
    """By their places, the calls for which there is a job already, and its id."""
    if isinstance(reply, bytes):  # RQ would run it at once
        raise InvalidValue("depends_on", reply.decode(), "a job that exists")
    if reply == 1:
        return {}
    return {
        place: id_.decode("utf-8", "surrogateescape")
        for place, id_ in zip(reply[::2], reply[1::2], strict=True)
    }


class Written(NamedTuple):
    """The ids of jobs in order, and the places, from 0, of those that were there before."""

    ids: list[str]
    taken: list[int]

    @property
    def new(self) -> int:
        """How many were not."""
        return len(self.ids) - len(self.taken)


def write(
    prepared: Iterable[Prepared], on_progress: Callable[[Written], None] = lambda _: None
) -> Written:
    """Write prepared calls, in chunks of those that are alike.

    What `prepared` raises ends it; those before are written, and a JiffyError says how many.
    """
    chunks = _Chunks(on_progress)
    try:
        for one in prepared:
            chunks.add(one)
        chunks.finish()
    except (RedisAway, RedisFull):
        raise  # nothing more can be written
    except BaseException as error:
        with suppress(RedisAway, RedisFull):  # what has ended it is what is to be raised
            chunks.finish()
        done = chunks.written
        on_progress(done)  # it may be what was interrupted
        if isinstance(error, JiffyError):
            made = f"Enqueued before it: {done.new:,}."
            message = f"Call {len(done.ids) + 1:,}: {error} {made}"
            raise WrongArguments(message) from error
        raise
    return chunks.written


class _Chunks:
    """Collects calls to chunks; while Redis writes one, the next is put together."""

    def __init__(self, on_progress: Callable[[Written], None]) -> None:
        self._on_progress = on_progress
        self._ahead = redis_io.Ahead(redis_io.shared())
        self._chunk, self._underway = list[Prepared](), list[Prepared]()
        self._size_bytes, self._send_at = 0, clock.monotonic() + WRITE_EVERY_S
        self._is_replaced = rq_compat.is_replaced(Queue, "enqueue_job")
        self.written = Written([], [])

    def add(self, one: Prepared) -> None:
        if self._is_replaced or one.recipe.around:
            one = wrapped(one)
        if self._chunk:
            first = self._chunk[0]
            if one.recipe is not first.recipe or one.is_named != first.is_named:
                self._send()
        self._chunk.append(one)
        meta = one.recipe.fields.get("meta", "")
        self._size_bytes += len(one.call.data) + len(one.call.description) + len(meta)
        if clock.monotonic() >= self._send_at:
            self.finish()  # the next one may come in hours
        elif len(self._chunk) >= one.recipe.most_jobs or self._size_bytes >= MOST_BYTES:
            self._send()

    def finish(self) -> None:
        if self._chunk:
            self._send()
        self._receive()

    def _send(self) -> None:
        chunk, self._chunk, self._size_bytes = self._chunk, [], 0
        self._send_at = clock.monotonic() + WRITE_EVERY_S
        command = chunk[0].recipe.command(chunk, rq_now(), chunk[0].token)
        self._receive()
        self._underway = chunk
        self._ahead.send(command)

    def _receive(self) -> None:
        done, chunk = self.written, self._underway
        try:
            reply = self._ahead.reply()
        except (RedisAway, RedisFull) as error:
            changed: dict[str, Any] = {"count": len(done.ids)}
            if isinstance(error, RedisAway) and error.doubt:
                how = ("without ids of yours, they double", "with the same ids, none is doubled")
                may = f"the {len(chunk):,} under way may have been enqueued"
                changed["doubt"] = f"{may}; repeated {how[chunk[0].is_named]}."
            raise error.but(**changed) from error
        if reply is None:
            return
        taken, first = _taken(reply), len(done.ids)
        done.ids.extend(taken.get(place, one.job_id) for place, one in enumerate(chunk))
        done.taken.extend(first + place for place in taken)
        self._underway = []
        self._on_progress(done)


def wrapped(one: Prepared, write: Callable[[Prepared], None] = lambda _: None) -> Prepared:
    """Enter the contexts of `Enqueue.around`, then call what an integration (Sentry) has put around
    RQ's `enqueue_job`, and `write` inside all of it.

    Returns what is to be written: what they write into the job's meta, for the worker, goes with
    it.  RQ does not call `enqueue_job` for a job that is for later.
    """
    recipe, redis, changed = one.recipe, redis_io.shared(), one

    def note(job: Job) -> None:
        nonlocal changed
        if job.meta:
            meta = json.dumps(job_options.read({"meta": job.meta})["meta"])
            changed = one._replace(recipe=recipe.having({"meta": meta}))
        write(changed)

    def enqueue_job() -> None:
        if recipe.is_late or not rq_compat.is_replaced(Queue, "enqueue_job"):
            note(job)
            return
        queue, at_front = Queue(recipe.queue, connection=redis), recipe.options.get("at_front")
        rq_compat.enqueue_wrapped(queue, job, note, at_front=bool(at_front))

    job = made_of(one.fields(rq_now()), one.job_id, redis)
    hooks.inside(recipe.around, job, enqueue_job)
    return changed


def rq_now() -> str:
    """This moment as RQ writes it."""
    return clock.rq_text(clock.wall())


def new_id() -> str:
    """A random id in the form of RQ's."""
    raw = os.urandom(16).hex()
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
