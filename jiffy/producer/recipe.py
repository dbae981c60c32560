"""What all jobs of one function and its options have in common, put together once."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from typing import Any

import rq
from rq.defaults import DEFAULT_RESULT_TTL

from jiffy import clock, keys
from jiffy.errors import CallTooLarge, WrongArguments
from jiffy.producer import options as job_options
from jiffy.producer.payload import MARK, Call, Target, target
from jiffy.redis_io import pack, prepacked

# A call whose reply was lost is repeated within seconds.  A job that may be gone by then is
# remembered for a minute; the others are known by their hash.
_REMEMBERED_S = 60
_GONE_WITHIN_S = 30

_NOTHING = b"$0\r\n\r\n"


class Recipe:
    """Makes the jobs of `function` with these options: their fields, and the words for Redis."""

    def __init__(self, function: Callable[..., object], given: Mapping[str, Any]) -> None:
        self.target: Target = target(function)
        self.given = given
        self.options = options = job_options.read(given)
        self.queue: str = options.get("queue", "default")
        self.is_late = "in_" in options or "at" in options
        self.ttl_s: int | None = options.get("ttl")
        self.job_id: str | None = options.get("job_id")
        self.depends_on = options.get("depends_on")
        self.unique_ms = round(options["unique"] * 1000) if "unique" in options else None
        self.same: dict[str, Any] = self._same_fields()
        self._describe: str | None = options.get("description")
        self._refuse_too_large({"meta": self.same.get("meta"), "description": self._describe})
        self._head, self._tail = self._packed_once()
        self._count = 15 + 2 * len(self.same)

    def joined(self, waiting_id: str) -> "Recipe":
        """The same for jobs that the job `waiting_id` waits for."""
        return self.having({keys.JOIN_FIELD: waiting_id})

    def having(self, fields: Mapping[str, Any]) -> "Recipe":
        """The same with these fields in its jobs."""
        changed = copy(self)
        changed.same = {**self.same, **fields}
        changed._head, changed._tail = changed._packed_once()
        changed._count += 2 * (len(changed.same) - len(self.same))
        return changed

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The call, checked (see `Target.call`), described as the options want it."""
        made = self.part(args, kwargs)
        if MARK in made.data:
            raise WrongArguments(
                f"{self.target.path}: `result` stands among the arguments of a part of a chain or "
                "group; this call has no part before it."
            )
        return made

    def part(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The same for a part of a chain or group: `result` may be among its arguments."""
        made = self.target.call(args, kwargs)
        return made if self._describe is None else Call(made.data, self._describe)

    def fields(self, made: Call, now: str) -> dict[str, Any]:
        """The hash of a job.  Mirrors rq.Job.to_dict as rq.Queue.enqueue_job leaves it."""
        status = (
            {"status": "scheduled"} if self.is_late else {"status": "queued", "enqueued_at": now}
        )
        fields = {"origin": self.queue, "created_at": now, "data": made.data, **status}
        return fields | self.same | {"description": made.description}

    def message(self, made: Call, job_id: str, token: str, now: str) -> bytes:
        """The command that runs `enqueue.lua`."""
        description = made.description.encode("utf-8", "replace")
        return prepacked(
            "enqueue",
            self._count,
            b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b%b$27\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b"
            % (
                self._head, len(job_id), job_id.encode(), len(token), token.encode(),
                pack([self._unique_key(made)]) if self.unique_ms else _NOTHING,
                pack([self.due()]) if self.is_late else _NOTHING,
                now.encode(), len(made.data), made.data.encode(), len(description), description,
                self._tail,
            ),
        )  # fmt: skip

    def message_for_many(
        self, jobs: Sequence[tuple[str, Call]], *, token: str, is_named: bool
    ) -> bytes:
        """The command that runs `enqueue_many.lua`; `is_named`: the ids are given, may be taken."""
        fields = [word for pair in self.same.items() for word in pair]
        head = [
            1, keys.queue(self.queue), self.queue, self._how(), _or_empty(self.ttl_s), token,
            _REMEMBERED_S, "1" if is_named else "", self.due() if self.is_late else "",
            clock.rq_text(clock.wall()), len(fields), *fields,
        ]  # fmt: skip
        words = [pack(head)]
        for job_id, (data, text) in jobs:
            description = text.encode("utf-8", "replace")
            words.append(
                b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
                % (
                    len(job_id), job_id.encode(), len(data), data.encode(),
                    len(description), description,
                )
            )  # fmt: skip
        return prepacked("enqueue_many", len(head) + 3 * len(jobs), b"".join(words))

    def due(self) -> int:
        """When a job for later is due: a whole second, as RQ keeps it, and never too early."""
        at = self.options.get("at") or clock.now() + timedelta(seconds=self.options["in_"])
        return math.ceil(at.timestamp())

    def _refuse_too_large(self, texts: Mapping[str, str | None]) -> None:
        sizes = {name: len(text or "") for name, text in texts.items()}
        size, most = sum(sizes.values()), self.target.most_bytes
        if size > most:
            raise CallTooLarge(self.target.path, size, most, max(sizes, key=sizes.__getitem__))

    @property
    def remembered_s(self) -> int | str:
        """How long to remember a call whose job may be gone when it is said again; else ""."""
        options = self.options
        lasts = [options[ttl] for ttl in ("result_ttl", "failure_ttl", "ttl") if ttl in options]
        is_soon_gone = any(0 <= seconds < _GONE_WITHIN_S for seconds in lasts)
        return _REMEMBERED_S if is_soon_gone else ""

    def _packed_once(self) -> tuple[bytes, bytes]:
        options, same = self.options, self.same
        head = [
            1, keys.queue(self.queue), self.queue, self._how(), _or_empty(self.ttl_s),
            self.remembered_s, _or_empty(self.unique_ms), options.get("unique_until", ""),
        ]  # fmt: skip
        tail = [word for pair in same.items() for word in pair]
        return pack(head), pack(tail)

    def _how(self) -> str:
        if self.is_late:
            return "ZADD"
        return "LPUSH" if self.options.get("at_front") else "RPUSH"

    def _unique_key(self, made: Call) -> str:
        given = self.options.get("unique_key")
        path = self.target.path
        what = f"call {self._canonical(made)}" if given is None else f"key {path} {given}"
        return keys.unique(hashlib.sha256(what.encode()).hexdigest()[:32])

    def _canonical(self, made: Call) -> str:
        """The same text for the same call, however its arguments were written."""
        path, _, args, kwargs = json.loads(made.data)
        if self.target.signature is None:
            return made.data
        bound = self.target.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return json.dumps([path, bound.arguments], sort_keys=True, default=repr)

    def _same_fields(self) -> dict[str, Any]:
        """The fields that differ between options; what is empty in each job is up to the script."""
        options = self.options
        fields: dict[str, Any] = {}
        for name, value in options.items():
            fields |= job_options.TABLE[name].fields(value)
        fields.setdefault("timeout", rq.Queue.DEFAULT_TIMEOUT)
        if "unique" in options and "unique_until" not in options:
            # For so long other calls are given its id: it must not be gone by then.
            unique_s = math.ceil(options["unique"])
            if unique_s > DEFAULT_RESULT_TTL:
                fields.setdefault("result_ttl", unique_s)
        if options.get("at_front") and (self.is_late or self.depends_on is not None):
            fields["enqueue_at_front"] = 1
        if self.target.secrets:
            fields[keys.MASKED_FIELD] = str(self.target.secrets)
        return fields


def new_id() -> str:
    """A random id in the form of RQ's."""
    raw = os.urandom(16).hex()
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def _or_empty(value: object) -> object:
    return "" if value is None else value
