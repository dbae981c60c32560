"""Many jobs of one kind: written in chunks, what they have in common travels once a chunk.

While Redis writes one chunk, the next is put together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from jiffy import clock
from jiffy.errors import JiffyError, RedisAway, RedisFull, WrongArguments
from jiffy.producer.options import read_id
from jiffy.producer.payload import Call
from jiffy.producer.recipe import Recipe, new_id
from jiffy.redis_io import Ahead


@dataclass(frozen=True)
class Both:
    """The arguments of one call: some by place, some by name."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]


Arguments = Sequence[Any] | Mapping[str, Any] | Both

# Large enough that the round trip does not count, small enough that Redis is nobody's for long.
MOST_JOBS, MOST_BYTES = 1000, 1_000_000
# A slow source of calls is not waited for: jobs are written at least so often.
LONGEST_S = 0.2


@dataclass
class Put:
    """What was put: the ids in order, and the places, from 0, of those that were another job's."""

    ids: list[str] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)


class Order:
    """What somebody wants to be put."""

    def __init__(
        self,
        calls: Iterable[Arguments],
        job_ids: Iterable[str] | None,
        on_progress: Callable[[int], None],
    ) -> None:
        self.calls, self.on_progress = calls, on_progress
        self.is_named = job_ids is not None
        self._ids: Iterator[str] = iter(()) if job_ids is None else iter(job_ids)

    def next_id(self, number: int) -> str | None:
        """The id for call `number`; None if nobody gave any."""
        if not self.is_named:
            return None
        try:
            return read_id("job_id", next(self._ids))
        except StopIteration:
            raise WrongArguments(f"There is no job id for call {number}.") from None


def put(redis: Redis, recipe: Recipe, order: Order) -> Put:
    """Write them all.  Raises what is wrong with a call; those before it are written."""
    batch = _Batch(redis, recipe, order)
    try:
        for number, (args, kwargs) in enumerate(map(arguments, order.calls), start=1):
            batch.add(order.next_id(number) or new_id(), recipe.call(args, kwargs))
    except (RedisAway, RedisFull):
        raise  # nothing more can be written
    except BaseException as error:
        with suppress(RedisAway, RedisFull):  # what has ended it is what is to be told
            batch.finish()
        order.on_progress(len(batch.done.ids))  # it may be what was interrupted
        if isinstance(error, JiffyError):
            raise _located(error, len(batch.done.ids) + 1) from error
        raise
    batch.finish()
    return batch.done


def put_made(redis: Redis, recipe: Recipe, jobs: Iterable[tuple[str, Call]]) -> None:
    """Write jobs whose calls are checked already, under new ids."""
    batch = _Batch(redis, recipe, Order((), None, lambda _: None))
    for job_id, made in jobs:
        batch.add(job_id, made)
    batch.finish()


def arguments(call: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """A call's arguments by place and by name.  Raises WrongArguments for what is neither."""
    if isinstance(call, tuple | list):
        return call, _NONE
    if isinstance(call, dict):
        return (), call
    if isinstance(call, Both):
        return call.args, call.kwargs
    raise WrongArguments(
        f"{call!r} is no call: write a tuple of arguments, such as ({call!r},), or a dict by name."
    )


_NONE: Mapping[str, Any] = {}
# By whether the jobs have ids of the caller's.
_IN_DOUBT = {
    True: "the {:,} under way may have been enqueued; repeated with the same ids, none is doubled.",
    False: "the {:,} under way may have been enqueued; repeated without ids of yours, they double.",
}


class _Batch:
    """Collects jobs to chunks and sends them on their way."""

    def __init__(self, redis: Redis, recipe: Recipe, order: Order) -> None:
        self._recipe, self._order = recipe, order
        self._ahead = Ahead(redis)
        self._chunk: list[tuple[str, Call]] = []
        self._size_bytes = 0
        self._send_at = 0.0
        self._underway: list[str] = []
        self.done = Put()

    def add(self, job_id: str, made: Call) -> None:
        if not self._chunk:
            self._send_at = clock.monotonic() + LONGEST_S
        self._chunk.append((job_id, made))
        self._size_bytes += len(made.data)
        if (
            len(self._chunk) >= MOST_JOBS
            or self._size_bytes >= MOST_BYTES
            or clock.monotonic() >= self._send_at
        ):
            self._send()

    def finish(self) -> None:
        if self._chunk:
            self._send()
        self._settle()

    def _send(self) -> None:
        chunk, self._chunk, self._size_bytes = self._chunk, [], 0
        command = self._recipe.message_for_many(
            chunk, token=new_id(), is_named=self._order.is_named
        )
        self._settle()
        self._underway = [job_id for job_id, _ in chunk]
        self._ahead.send(command)

    def _settle(self) -> None:
        """Wait until Redis has written the chunk that is underway."""
        try:
            taken = self._ahead.reply()
        except (RedisAway, RedisFull) as error:
            raise self._amid(error) from error
        if taken is not None:
            self.done.taken += [len(self.done.ids) + place for place in taken]
            self.done.ids += self._underway
            self._order.on_progress(len(self.done.ids))

    def _amid(self, error: RedisAway | RedisFull) -> JiffyError:
        if isinstance(error, RedisAway) and error.doubt:
            doubt = _IN_DOUBT[self._order.is_named].format(len(self._underway))
            error = error.but(doubt=doubt, job_id=None)
        return error.after(len(self.done.ids))


def _located(error: JiffyError, number: int) -> JiffyError:
    return WrongArguments(f"Call {number:,}: {error} Enqueued before it: {number - 1:,}.")
