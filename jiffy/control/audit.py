"""Who changed what: four streams in Redis, to which pages and commands add, and what they hold."""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from msgspec import Meta, Struct
from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from jiffy import clock, keys, log
from jiffy.control.pauses import user
from jiffy.control.values import Fields, Moment, clip, line, long_text, number
from jiffy.errors import JiffyError

# Apart, so that what programs enqueue, or strangers try, does not push out what people did.
KINDS = ("changes", "enqueued", "logins", "refused")
MOST_KEPT = 10_000  # of each kind
MOST_SHOWN = 100  # at a time
_MOST_LETTERS = 10_000  # of a field
NOTHING = "nothing"  # was done: what was to be changed was so already


def add(
    redis: Redis, kind: str, fields: Mapping[str, object], old_id: bytes | None = None
) -> bytes | None:
    """Add an entry, in place of an older one, if that is given; return its id.

    If Redis is full the log has it, and None is returned: people delete jobs to make room.
    """
    shown = {
        name: clip(str(value), _MOST_LETTERS) for name, value in fields.items() if value is not None
    }
    raw = {name: value.encode("utf-8", "replace") for name, value in shown.items()}
    with redis.pipeline(transaction=False) as pipe:
        pipe.xadd(keys.audit(kind), raw, maxlen=MOST_KEPT, approximate=True)  # type: ignore[arg-type]
        if old_id:
            pipe.xdel(keys.audit(kind), old_id)
        try:
            made: bytes = pipe.execute()[0]
        except OutOfMemoryError:
            log.event("audit.full", log.WARNING, **shown)
            return None
    return made


@contextmanager
def from_shell(redis: Redis, what: str, on: str) -> Iterator[dict[str, object]]:
    """Record what the user of this process asks for, and, once it is done or refused, what came of
    it: what is added to the entry that this gives, and a status, as of a request: 200 or 422.
    """
    entry = dict[str, object](
        who=user(), what=f"shell.{what}", on=on, **{"from": socket.gethostname()}
    )
    entry_id = add(redis, "changes", entry)
    try:
        yield entry
        entry["status"] = 200
    except JiffyError:
        entry["status"] = 422
        raise
    finally:
        with suppress(RedisError):  # it is done, or refused, all the same
            add(redis, "changes", entry, entry_id)


class AuditEntry(Struct, frozen=True, rename={"address": "from"}):
    """A change that was asked for, or a login.

    id: For `before`.
    at: When it was written.
    who: A user, or the setting that has the token.
    what: The operation.
    on: What it was to change.
    from: The address of the client; of a command, its machine.
    jobs: How many jobs it changed, where it counts them.
    status: Of the answer; null if none was given, or not yet.
    """

    id: str
    at: Moment | None
    who: str
    what: str
    on: str
    address: str
    jobs: Annotated[int, Meta(ge=0)] | None
    status: Annotated[int, Meta(ge=0)] | None


def entries(redis: Redis, kind: str, before: str) -> list[AuditEntry]:
    """The newest of a kind, or the next ones before this id; none of a key of another type."""
    end = f"({before}" if re.fullmatch(r"[0-9]{1,18}-[0-9]{1,18}", before) else "+"
    found: Any
    try:
        found = redis.xrevrange(keys.audit(kind), end, count=MOST_SHOWN)
    except ResponseError:
        return []
    listed = []
    for entry_id, fields in found:
        at_s = int(entry_id.partition(b"-")[0]) / 1000
        at = clock.from_wall(at_s) if at_s < clock.wall() * 2 else None
        read = Fields({line(name): raw for name, raw in fields.items()})
        who, what, on, address = (read(one, long_text, "") for one in ("who", "what", "on", "from"))
        jobs, status = (read(one, number, None) for one in ("jobs", "status"))
        listed.append(AuditEntry(line(entry_id), at, who, what, on, address, jobs, status))
    return listed
