"""Pauses of queues and functions, which workers obey at once: by whom, why, and until when.

Jobs of a paused queue stay on it.  A job of a paused function is parked when its turn comes: it
has not been started, and comes back to the front of its queue.  What runs already runs on.
"""

import getpass
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from typing import Annotated, Literal

import rq
from msgspec import Meta
from redis import Redis

from jiffy import clock, keys, redis_io
from jiffy.control import entries, read
from jiffy.control.values import answer, answers, text
from jiffy.errors import InvalidValue, JiffyError, WrongArguments, did_you_mean
from jiffy.producer import functions, options
from jiffy.settings import settings

Function = Callable[..., object] | str
MOST = 1000  # pauses: while there are any, each claim reads all of them
_AT_A_TIME = 1000
_MUST_BE_PATH = "a function, or its path, such as 'jobs.numbers.add'"


@dataclass(frozen=True)
class PausedWork(entries.Paused):
    """A queue or a function that is paused, by whom, and why.

    parked: How many jobs of a function wait until it is resumed.
    """

    kind: Literal["queue", "function"]
    name: str
    parked: Annotated[int, Meta(ge=0)] = 0


def pause(
    *, queue: str | None = None, function: Function | None = None, why: str, who: str = "",
    until: clock.Duration | datetime | None = None,
) -> None:  # fmt: skip
    """Let workers start no job of a queue, or of a function: `pause(queue="low", why="…")`.

    `until` is how long, or a moment with its zone; `who` is the user of this process if it is left
    out.  A pause takes the place of the one before.  Raises InvalidValue, or
    WrongArguments where there are MOST.
    """
    field, redis = _field(queue, function), redis_io.shared()
    stored, _ = entries.pause_json(who or user(), why, until, redis_io.now(redis))
    if len(read_pauses(redis)) >= MOST:
        raise WrongArguments(f"{MOST:,} pauses are in force already; resume one first.")
    redis_io.deliver(redis, redis_io.command("HSET", keys.PAUSED, field, stored))


def doubt(*, queue: str | None = None, function: str | None = None) -> str:
    """What to say of a pause whose name is not known here, and may be mistyped; "" if it is."""
    if queue is not None:
        names = read.queue_names(redis_io.shared())
        near = did_you_mean(queue, names)
        return "" if queue in names else f" No job has been on a queue of this name yet{near}."
    try:
        functions.find(function or "", settings().jobs_modules)
    except JiffyError as error:
        return f" It is not known here, though: {error}"
    return ""


def resume(*, queue: str | None = None, function: Function | None = None) -> bool:
    """End a pause, and let sleeping workers look; False if there was none.  Raises InvalidValue."""
    field, redis = _field(queue, function), redis_io.shared()
    was_paused = redis_io.deliver(redis, redis_io.command("HDEL", keys.PAUSED, field))
    names, most = ([keys.queue(queue)], "wake") if queue else ([keys.NOTHING], _AT_A_TIME)
    due = redis_io.script_command("due", names, [most, rq.Queue.DEFAULT_TIMEOUT])
    while redis_io.deliver(redis, due)[0] >= _AT_A_TIME:
        pass  # the workers' supervisors do the same: nothing is lost if this process ends now
    return bool(was_paused)


def read_pauses(redis: Redis) -> list[PausedWork]:
    """Those that are in force, queues first; what is odd in Redis is left out."""
    found = in_force(answer(redis.hgetall, keys.PAUSED) or {}, redis_io.now(redis))
    with redis.pipeline(transaction=False) as pipe:
        for one in found:
            pipe.zcard(keys.parked(one.name))
        counts = answers(pipe) if any(one.kind == "function" for one in found) else ()
    return [replace(one, parked=n or 0) for one, n in zip_longest(found, counts)]


def in_force(stored: Mapping[bytes, bytes], now: datetime) -> list[PausedWork]:
    """The pauses in force among `stored`, the hash PAUSED; without how many jobs are parked."""
    found = []
    for raw in sorted(stored, reverse=True):
        kind, _, name = text(raw).partition(":")
        if one := entries.read_pause(stored[raw], now):
            work: Literal["queue", "function"] = "queue" if kind == "queue" else "function"
            found.append(PausedWork(**vars(one), kind=work, name=name))
    return found


def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this process' user
        return "unknown"


def _field(queue: str | None, function: Function | None) -> str:
    if queue is not None and function is None:
        return f"queue:{options.read_queue('queue', queue)}"
    if function is None or queue is not None:
        raise InvalidValue("queue, function", f"{queue}, {function}", "one of the two")
    path = function if isinstance(function, str) else functions.path_of(function)
    if not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        raise InvalidValue("function", function, _MUST_BE_PATH)
    return f"func:{path}"
