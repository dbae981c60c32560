"""Who changed what: three streams in Redis, to which pages and commands add."""

import socket
from collections.abc import Mapping

from redis import Redis
from redis.exceptions import OutOfMemoryError

from jiffy import keys, log
from jiffy.control.pauses import user
from jiffy.control.values import clip

# Apart, so that what programs enqueue, or strangers try, does not push out what people did.
KINDS = ("changes", "enqueued", "logins")
MOST_KEPT = 10_000  # of each kind
_MOST_LETTERS = 5000  # of a field


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


def from_shell(
    redis: Redis, what: str, on: str, jobs: int | None = None, old_id: bytes | None = None
) -> bytes | None:
    """Add what the user of this process asks for."""
    entry = {"who": user(), "what": f"shell.{what}", "on": on, "from": socket.gethostname()}
    return add(redis, "changes", {**entry, "jobs": jobs}, old_id)
