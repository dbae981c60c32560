"""For which other jobs a deferred one still waits, and what these are at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from jiffy import keys
from jiffy.dashboard import decode
from jiffy.redis_io import script

MOST = 20
_MOST_BYTES = 100  # of a state
_OVER_BUT_NOT_FINISHED = ("failed", "stopped", "canceled")


@dataclass(frozen=True)
class Other:
    """A job that another waits for."""

    id: str
    state: str  # "gone" where it cannot be read

    @property
    def is_in_the_way(self) -> bool:
        """Whether somebody has to try it again first."""
        return self.state in _OVER_BUT_NOT_FINISHED


@dataclass(frozen=True)
class Waits:
    """The first of the others, and how many more there are."""

    others: tuple[Other, ...] = ()
    more: int = 0

    @property
    def in_the_way(self) -> list[str]:
        return [other.id for other in self.others if other.is_in_the_way]


NOTHING = Waits()


def read(redis: Redis, job_id: str, depends_on: Sequence[str]) -> Waits:
    """Two round trips: parts of its chain or group that are not over; else what it depends on."""
    parts, count = _parts(redis, job_id)
    ids = parts or depends_on[:MOST]
    answers = script(redis, "peek")(keys=[*map(keys.job, ids)], args=[_MOST_BYTES, "status"])
    others = tuple(map(Other, ids, map(_state, answers)))
    return Waits(others, max(count, len(depends_on)) - len(others))


def _parts(redis: Redis, job_id: str) -> tuple[list[str], int]:
    with redis.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.pending(job_id), 0, MOST - 1)
        pipe.zcount(keys.pending(job_id), 0, "+inf")
        found, count = pipe.execute(raise_on_error=False)
    if not isinstance(found, list) or not isinstance(count, int):
        return [], 0  # its key is of another type
    # "" is their producer, which is still at it.
    return [decode.text(member) for member in found if member], count


def _state(answer: Any) -> str:
    raw = answer[0] if isinstance(answer, list) else None
    return decode.text(raw) if isinstance(raw, bytes) else "gone"
