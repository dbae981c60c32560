"""History: how many attempts ended how, and how long they waited and ran, over hours and months.

The workers count by the minute, in the round trip that finishes jobs (finish.lua).  Once a minute
is over, a supervisor packs it: into minutes, kept for seven days (those of functions for two),
hours for 90 days, days for 400.  A chunk of one of these is three strings in Redis: of all
functions, of all queues and of the total.  How long attempts took is kept as a histogram whose
buckets double in width.

Every ten seconds it also samples how many jobs wait in each queue and have ended in it, for the
last five minutes, and Redis' memory, for a day.
"""

import json
import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError, WatchError

from jiffy import clock, keys

By = Literal["total", "queue", "function"]
Span = Literal["1h", "24h", "7d", "90d"]
ENDS = ("done", "failed", "retried", "interrupted")
OTHER = "other"  # what is beyond the most
MOST_SERIES = 100  # functions, and as many queues
PACK_EVERY_S = 10
_DAY_S = 86400
# Names of functions that have not run for so long make room for others.
_FORGOTTEN_AFTER_S = 7 * _DAY_S
_UNPACKED = 30  # minutes that may wait to be packed; Redis deletes those that are older
_BUCKETS = 32  # the first is up to 0.1 ms, the last from 29 hours on
_RAN_MS = len(ENDS)
_WAITED, _RAN = 32, 64  # where the columns of the histograms begin
_TOO_MANY = 2**53  # for a count
# Of minutes, or packed of all series of a kind; and how many these are, in a chunk of days.
_MOST_BYTES, _MOST_PACKED_BYTES, _MOST_IN_CHUNK = 10_000_000, 2_000_000, 2000
_MOST_FIELDS = 20_000  # of a minute: twice what lib.lua leaves; of all that are not packed, too
# Of a chunk, before its counts are: a byte of them costs its reader 0.1 µs.  A hundred functions
# with a count in all columns and hours need 2 MB.
_MOST_CHUNK_BYTES, _MOST_TOGETHER = 3_000_000, 6_000_000
# A supervisor also renews leases: what is not packed within that is packed the next time.
_PACK_S = 2.0
MEMORY_KEY = keys.history("memory")  # hash: see `memory`
_NAMES = keys.history("names")  # sorted set: series -> when it was last counted
FLOW_S = 300  # how far samples go back
_MOST_SAMPLED = 500  # queues
_MOST_RELEASES = 50
_MEMORY_EVERY_S, _MEMORY_SLOTS = 600, 144

Columns = dict[int, list[int]]
_KINDS = ("t", "q", "f")  # the total, queues, functions
_TOTAL = "t:"


@dataclass(frozen=True)
class _Tier:
    step_s: int
    slots: int  # in a chunk
    kept_s: int

    def key(self, chunk: int, kind: str) -> str:
        return keys.history(f"{self.step_s}:{chunk}:{kind}")

    @cached_property
    def columns(self) -> "msgspec.msgpack.Decoder[Columns]":
        row: Any = Annotated[list[_Count], Meta(min_length=self.slots, max_length=self.slots)]
        column: Any = Annotated[int, Meta(ge=0, lt=_RAN + _BUCKETS)]
        return msgspec.msgpack.Decoder(dict[column, row])


_MINUTES = _Tier(60, 60, 7 * _DAY_S)
_HOURS = _Tier(3600, 96, 90 * _DAY_S)
_DAYS = _Tier(_DAY_S, 64, 400 * _DAY_S)
_TIERS = (_MINUTES, _HOURS, _DAYS)
_FUNCTION_MINUTES_S = 2 * _DAY_S  # five more days of fifty functions would take 3 MB more
# Where its points come from, and how many there are.
_SPANS = {"1h": (_MINUTES, 60), "24h": (_HOURS, 24), "7d": (_HOURS, 168), "90d": (_DAYS, 90)}


@dataclass(frozen=True)
class Times:
    """How long attempts took, in seconds; None where none was measured."""

    p50_s: float | None
    p95_s: float | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """Attempts that ended in the `seconds` after `start`: how many, and how long they took.

    `ran_s` is the time that they ran together; percentiles are as exact as a bucket is wide.
    """

    start: datetime
    seconds: int
    done: int
    failed: int
    retried: int
    interrupted: int
    ran_s: float
    waited: Times
    ran: Times

    @property
    def attempts(self) -> int:
        return self.done + self.failed + self.retried + self.interrupted


@dataclass(frozen=True)
class Series:
    """Points, the oldest first and the last one under way; and all of them together."""

    points: tuple[Point, ...]
    whole: Point


def read(
    redis: Redis, by: By = "total", name: str = "", span: Span = "1h", now_s: float | None = None
) -> Series:
    """What became of all attempts, or those of one queue or function, in two round trips (one asks
    how large minutes are), and another to ask for Redis' time where `now_s` is not given.

    Points are a minute, an hour or a day long, and are there also where nothing ran.
    """
    series = _series(by, name)
    columns, first_s = _columns(redis, span, series, now_s)
    return _points(columns.get(series, {}), first_s, *_SPANS[span])


def _points(columns: Columns, first_s: int, tier: _Tier, count: int) -> Series:
    step_s = tier.step_s
    points = [_point(first_s + n * step_s, step_s, columns, n, 1) for n in range(count)]
    return Series(tuple(points), _point(first_s, step_s * count, columns, 0, count))


@dataclass(frozen=True)
class Glance:
    """All attempts over a time, and what each function and queue had of them."""

    series: Series
    functions: Mapping[str, Point]  # what ran longest first
    queues: Mapping[str, Point]


def glance(redis: Redis, span: Span, now_s: float) -> Glance:
    """What became of all attempts, and of those of each function and queue, in two round trips.

    Points are a minute, an hour or a day long; `now_s` is Redis' time.
    """
    tier, count = _SPANS[span]
    columns, first_s = _columns(redis, span, None, now_s)
    whole = {
        series: _point(first_s, tier.step_s * count, found, 0, count)
        for series, found in columns.items()
        if any(map(any, found.values()))
    }
    longest = sorted(whole.items(), key=lambda one: one[1].ran_s, reverse=True)
    return Glance(
        _points(columns.get(_TOTAL, {}), first_s, tier, count),
        {series[2:]: point for series, point in longest if series.startswith("f:")},
        {series[2:]: point for series, point in longest if series.startswith("q:")},
    )


class Sample(NamedTuple):
    """Of a queue: when it was taken, how many jobs wait, how many attempts ended since the last."""

    at_s: float
    waiting: int
    ended: int


@dataclass(frozen=True)
class Flow:
    """A queue over the last five minutes: the oldest sample first."""

    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        return max(1.0, self.samples[-1].at_s - self.samples[0].at_s)

    @property
    def out_per_s(self) -> float:
        """How many attempts ended."""
        return sum(sample.ended for sample in self.samples[1:]) / self.seconds

    @property
    def in_per_s(self) -> float:
        """How many jobs came: as many as ended, and those by which the queue grew."""
        grown = self.samples[-1].waiting - self.samples[0].waiting
        return max(0.0, self.out_per_s + grown / self.seconds)

    @property
    def drains_in_s(self) -> float | None:
        """When nothing waits any more at this rate; None: never."""
        shrinks_by = self.out_per_s - self.in_per_s
        return self.samples[-1].waiting / shrinks_by if shrinks_by > 1e-6 else None


def flows(redis: Redis) -> dict[str, Flow]:
    """Of the queues that had jobs in the last minutes, in one round trip; none if no supervisor
    has looked of late.
    """
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.lrange(keys.history("samples"), 0, FLOW_S // PACK_EVERY_S)
        time, blobs = pipe.execute(raise_on_error=False)
    if isinstance(time, RedisError):
        raise time
    if isinstance(blobs, ResponseError):
        return {}
    now_s, _ = time
    looks = [look for look in map(_look, blobs) if 0 <= now_s - look.at_s <= FLOW_S]
    if len(looks) < 2 or now_s - looks[0].at_s > 4 * PACK_EVERY_S:
        return {}
    looks.reverse()
    pairs = list(zip([looks[0], *looks], looks, strict=False))
    names = {name for look in looks for one in (look.waiting, *look.ended.values()) for name in one}
    return {name: Flow(tuple(b.sample(name, a) for a, b in pairs)) for name in names}


def note_release(redis: Redis, release: str) -> None:
    """Write down when the first worker of a release started."""
    key = keys.history("releases")
    with redis.pipeline(transaction=False) as pipe:
        pipe.zadd(key, {release: clock.wall()}, nx=True)
        pipe.zremrangebyrank(key, 0, -_MOST_RELEASES - 1)
        pipe.execute()


def releases(redis: Redis) -> dict[str, datetime]:
    """The newest releases, and when their first worker started, the newest first."""
    try:
        key, last = keys.history("releases"), _MOST_RELEASES - 1
        found: Any = redis.zrange(key, 0, last, desc=True, withscores=True)
        return {
            name[:200].decode("utf-8", "replace"): clock.from_wall(at_s) for name, at_s in found
        }
    except (ResponseError, ValueError, OverflowError, OSError):  # odd data
        return {}


def memory(stored: Iterable[bytes] | None) -> list[tuple[float, int]]:
    """What MEMORY_KEY holds: when Redis used how many bytes, every ten minutes of the last day,
    the oldest first.
    """
    try:
        found = sorted((float(at_s), int(used)) for at_s, used in map(json.loads, stored or ()))
    except (ValueError, TypeError, OverflowError, RecursionError):  # odd data
        return []
    return [pair for pair in found if all(0 <= one < _TOO_MANY for one in pair)]


def stored_keys(now_s: float) -> list[str]:
    """Everything that is kept for longer than half an hour."""
    chunks = [
        tier.key(chunk, kind)
        for tier in _TIERS
        for chunk in range(
            int((now_s - tier.kept_s) // tier.step_s // tier.slots),
            int(now_s // tier.step_s // tier.slots) + 1,
        )
        for kind in _KINDS
    ]
    return [*chunks, *map(keys.history, ("names", "releases", "samples", "memory"))]


def bucket(seconds: float) -> int:
    """The number of the bucket that counts so long a time."""
    if seconds <= 0:
        return 0
    number = int(seconds * 10_000).bit_length()
    return number if number < _BUCKETS else _BUCKETS - 1


def pack(redis: Redis) -> None:
    """Pack the minutes that are over.  Any number of processes may do this at once.

    Raises redis-py's errors; what was not packed then is packed the next time.
    """
    lock = keys.history("packing")
    if not redis.set(lock, 1, nx=True, px=PACK_EVERY_S * 900):
        if not -1 < redis.ttl(lock) <= PACK_EVERY_S:  # not ours: ours end
            redis.delete(lock)
        return
    now_s = int(redis.time()[0])
    this = now_s // 60
    there = _readable(redis, this)
    with suppress(ResponseError):  # a key of another type
        sample(redis, now_s, there)
    until = clock.monotonic() + _PACK_S
    for minute in there:
        if minute < this:
            _pack_minute(redis, minute)
        if clock.monotonic() > until:
            break


def _readable(redis: Redis, this: int) -> list[int]:
    """The minutes up to `this` that are not packed, as far as they are hashes of a size that ours
    may have; nothing else is read.
    """
    asked = range(this, this - _UNPACKED - 1, -1)  # of too much, the newest
    with redis.pipeline(transaction=False) as pipe:
        for minute in asked:
            pipe.hlen(_now_key(minute))
            pipe.memory_usage(_now_key(minute), samples=0)  # not every Redis may be asked
        sizes = pipe.execute(raise_on_error=False)
    found, fields_left, bytes_left = list[int](), _MOST_FIELDS, _MOST_BYTES
    for minute, size, used in zip(asked, sizes[::2], sizes[1::2], strict=True):
        used = used if isinstance(used, int) else 0
        if isinstance(size, int) and 0 < size <= fields_left and used <= bytes_left:
            found.append(minute)
            fields_left, bytes_left = fields_left - size, bytes_left - used
    return found[::-1]


_Count = Annotated[int, Meta(ge=0, lt=_TOO_MANY)]


class _Look(msgspec.Struct, array_like=True, frozen=True):
    """All queues at one time: by name how many jobs wait, and by minute and name how many attempts
    have ended, in each minute that is not packed.
    """

    at_s: Annotated[float, Meta(ge=0, lt=_TOO_MANY)] = 0
    waiting: dict[str, _Count] = {}
    ended: dict[str, dict[str, _Count]] = {}

    def sample(self, name: str, before: "_Look") -> Sample:
        ended = sum(
            counts.get(name, 0) - before.ended.get(minute, {}).get(name, 0)
            for minute, counts in self.ended.items()
        )
        return Sample(self.at_s, self.waiting.get(name, 0), max(0, ended))


@lru_cache(2 * FLOW_S // PACK_EVERY_S)
def _look(blob: bytes) -> _Look:
    with suppress(ValueError, RecursionError, msgspec.MsgspecError, zlib.error):
        return _LOOKS.decode(zlib.decompressobj().decompress(blob, 1_000_000))
    return _Look()  # not data of ours


_LOOKS = msgspec.json.Decoder(_Look)


def sample(redis: Redis, now_s: int, minutes: Sequence[int]) -> None:
    """Write down how many jobs wait, and what ended in these minutes, which are not packed."""
    named: Any = redis.srandmember(keys.QUEUES, _MOST_FIELDS)
    queues = sorted(named)[:_MOST_SAMPLED]
    with redis.pipeline(transaction=False) as pipe:
        pipe.info("memory")
        for minute in minutes:
            pipe.hgetall(_now_key(minute))
        for queue in queues:
            pipe.llen(queue)
        info, *found = pipe.execute(raise_on_error=False)
    counts, lengths = found[: len(minutes)], found[len(minutes) :]
    ended = {
        minute: {
            series.removeprefix("q:"): sum(columns[end] for end in range(len(ENDS)))
            for series, columns in _counted(raw).items()
            if series.startswith("q:")
        }
        for minute, raw in zip(minutes, counts, strict=True)
        if isinstance(raw, dict)
    }
    waiting = {
        queue.decode("utf-8", "replace").removeprefix(keys.queue("")): length
        for queue, length in zip(queues, lengths, strict=True)
        if isinstance(length, int) and length
    }
    look = zlib.compress(json.dumps([now_s, waiting, ended]).encode())
    with redis.pipeline(transaction=False) as pipe:
        pipe.lpush(keys.history("samples"), look)
        pipe.ltrim(keys.history("samples"), 0, FLOW_S // PACK_EVERY_S)
        pipe.expire(keys.history("samples"), FLOW_S)
        if not isinstance(info, ResponseError):
            slot = now_s // _MEMORY_EVERY_S % _MEMORY_SLOTS
            used = json.dumps([now_s, info["used_memory"]])
            pipe.hset(MEMORY_KEY, str(slot), used)
            pipe.expire(MEMORY_KEY, _DAY_S)
        pipe.execute()


def _pack_minute(redis: Redis, minute: int) -> None:
    key, at_s = _now_key(minute), minute * 60
    places = [(tier, *divmod(at_s // tier.step_s, tier.slots)) for tier in _TIERS]
    chunks = [(*place, kind) for place in places for kind in _KINDS]
    if redis.type(_NAMES) != b"zset":
        redis.delete(_NAMES)
    with redis.pipeline() as pipe, redis.pipeline(transaction=False) as reading:
        pipe.watch(key, *(tier.key(chunk, kind) for tier, chunk, _, kind in chunks))
        reading.hgetall(key)
        reading.zrange(_NAMES, 0, _MOST_FIELDS, desc=True)
        for tier, chunk, _, kind in chunks:
            reading.getrange(tier.key(chunk, kind), 0, _MOST_PACKED_BYTES)
        raw, known, *stored = reading.execute(raise_on_error=False)
        if not raw or not isinstance(raw, dict):  # another process has packed it meanwhile
            return
        names = known if isinstance(known, list) else ()  # else not data of ours
        counted = _bounded(_counted(raw), {name.decode("utf-8", "replace") for name in names})
        pipe.multi()
        for (tier, chunk, slot, kind), blob in zip(chunks, stored, strict=True):
            packed = _unpacked(_inflated(blob), tier, _TOTAL if kind == "t" else None)
            for series, counts in counted.items():
                if series[0] == kind:
                    columns = packed.setdefault(series, {})
                    for index, count in counts.items():
                        row = columns.setdefault(index, [0] * tier.slots)
                        row[slot] = min(row[slot] + count, _TOO_MANY // 2)  # still one once rounded
                    _round(columns, slot)
            kept_s = _FUNCTION_MINUTES_S if (tier, kind) == (_MINUTES, "f") else tier.kept_s
            whole = zlib.compress(msgspec.msgpack.encode(packed), 9)
            pipe.set(tier.key(chunk, kind), whole, ex=kept_s + tier.slots * tier.step_s)
        if seen := {series: at_s for series in counted if series != _TOTAL}:
            pipe.zadd(_NAMES, seen)
        pipe.zremrangebyscore(_NAMES, "-inf", at_s - _FORGOTTEN_AFTER_S)
        pipe.delete(key)
        with suppress(WatchError):  # the same, or the next time
            pipe.execute()


def _series(by: str, name: str) -> str:
    return f"{by[0]}:{name}"


def _now_key(minute: int) -> str:
    return keys.history(f"now:{minute}")


def _counted(raw: Mapping[bytes, bytes]) -> dict[str, dict[int, int]]:
    """A minute's counts, by series and column."""
    counted: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for field, value in raw.items():
        name, _, queue = field.decode("utf-8", "replace").partition("\n")
        try:
            what, waited, ran, function = name.split(" ", 3)
            count = int(value)
            columns = [_RAN_MS] if what == "ran_ms" else [ENDS.index(what)]
            columns += [_WAITED + int(waited)] if waited.isdigit() else []
            columns += [_RAN + int(ran)] if ran.isdigit() else []
        except ValueError:  # not data of ours
            continue
        if not 0 <= count < _TOO_MANY or max(columns) >= _RAN + _BUCKETS:  # nor this
            continue
        for series in (_TOTAL, _series("queue", queue), _series("function", function)):
            for column in columns:
                counted[series][column] += count
    return counted


def _bounded(
    counted: dict[str, dict[int, int]], known: Collection[str]
) -> dict[str, dict[int, int]]:
    """Those counts, where functions and queues beyond the most count as others."""
    bounded: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    kinds = {kind: sum(name.startswith(kind) for name in known) for kind in ("q:", "f:")}
    for series, counts in counted.items():
        kind = series[:2]
        if series not in known and kind in kinds:
            is_new = kinds[kind] < MOST_SERIES
            kinds[kind] += is_new
            series = series if is_new else kind + OTHER
        for column, count in counts.items():
            bounded[series][column] += count
    return bounded


def _columns(
    redis: Redis, span: Span, only: str | None, at_s: float | None
) -> tuple[dict[str, Columns], int]:
    """Columns by series (or `only` one), a slot for each point; and when that begins."""
    tier, width = _SPANS[span]
    now_s = int(redis.time()[0] if at_s is None else at_s)
    first = now_s // tier.step_s - width + 1
    numbers = range(first // tier.slots, (first + width - 1) // tier.slots + 1)
    chunks = [(chunk, kind) for chunk in numbers for kind in ([only[0]] if only else _KINDS)]
    there = _readable(redis, now_s // 60)

    def ask(*, is_transaction: bool) -> list[Any]:
        with redis.pipeline(transaction=is_transaction) as pipe:
            for chunk, kind in chunks:
                pipe.getrange(tier.key(chunk, kind), 0, _MOST_PACKED_BYTES)
            for minute in there:
                pipe.hgetall(_now_key(minute))
            return pipe.execute(raise_on_error=False)

    try:
        answers = ask(is_transaction=True)  # what is packed meanwhile counts once
    except OutOfMemoryError:  # a full Redis takes no transaction; nor is anything packed there
        answers = ask(is_transaction=False)
    found: dict[str, Columns] = defaultdict(dict)
    for (chunk, kind), plain in zip(chunks, _within_bounds(answers), strict=False):
        offset = chunk * tier.slots - first  # of the chunk's first slot in a row of that width
        begin, end = max(0, -offset), min(tier.slots, width - offset)
        wanted = _TOTAL if kind == "t" else only
        for series, columns in _unpacked(plain, tier, wanted).items():
            for index, counts in columns.items():
                column = found[series].setdefault(index, [0] * width)
                column[offset + begin : offset + end] = counts[begin:end]
    for minute, raw in zip(there, answers[len(chunks) :], strict=True):
        slot = minute * 60 // tier.step_s - first
        for name, counted in _counted(raw).items():
            if 0 <= slot < width and only in (None, name):
                for index, count in counted.items():
                    found[name].setdefault(index, [0] * width)[slot] += count
    return found, first * tier.step_s


def _round(columns: Columns, open_slot: int) -> None:
    """Times as exact as some binary digits, which halves what they take, but for a slot that still
    grows.
    """
    for index, counts in columns.items():
        digits = 6 if index == _RAN_MS else 2
        for slot, count in enumerate(counts) if index >= _RAN_MS else ():
            shift = 0 if slot == open_slot else max(count.bit_length() - digits, 0)
            counts[slot] = (count + (1 << shift >> 1)) >> shift << shift


_CHUNK = msgspec.msgpack.Decoder(Annotated[dict[str, msgspec.Raw], Meta(max_length=_MOST_IN_CHUNK)])


def _inflated(blob: Any) -> bytes:
    """A chunk before its series are unpacked; nothing if it is missing, or not data of ours."""
    inflater = zlib.decompressobj()
    with suppress(TypeError, zlib.error):
        plain = inflater.decompress(blob, _MOST_CHUNK_BYTES)
        return b"" if inflater.unconsumed_tail else plain
    return b""


def _within_bounds(blobs: Iterable[Any]) -> Iterator[bytes]:
    """Chunks before their series are unpacked, as far as ours may have so much together."""
    left = _MOST_TOGETHER
    for blob in blobs:
        plain = _inflated(blob)
        left -= len(plain)
        yield plain if left >= 0 else b""


def _unpacked(plain: bytes, tier: _Tier, only: str | None) -> dict[str, Columns]:
    """The series (or `only` one) in a chunk."""
    with suppress(ValueError, RecursionError, msgspec.MsgspecError):
        parts = _CHUNK.decode(plain)
        wanted = parts if only is None else parts.keys() & {only}
        return {series: tier.columns.decode(parts[series]) for series in wanted}
    return {}


def _point(start_s: int, seconds: int, columns: Columns, first: int, width: int) -> Point:
    sums = {index: sum(counts[first : first + width]) for index, counts in columns.items()}
    ends = {what: sums.get(index, 0) for index, what in enumerate(ENDS)}
    waited, ran = (
        [sums.get(begin + number, 0) for number in range(_BUCKETS)] for begin in (_WAITED, _RAN)
    )
    longest = sums.get(_RAN_MS, 0) / 1000 or math.inf  # none ran longer than all together
    return Point(
        start=clock.from_wall(start_s),
        seconds=seconds,
        **ends,
        ran_s=sums.get(_RAN_MS, 0) / 1000,
        waited=Times(_percentile(waited, 0.5), _percentile(waited, 0.95)),
        ran=Times(_percentile(ran, 0.5, longest), _percentile(ran, 0.95, longest)),
    )


def _percentile(counts: Sequence[int], share: float, longest: float = math.inf) -> float | None:
    """Where in its bucket it lies is a guess: as far as its rank there."""
    rank = share * sum(counts)
    for number, count in enumerate(counts):
        if count and rank <= count:
            low = 0.0 if number == 0 else 2.0 ** (number - 1)
            return min((low + (2.0**number - low) * rank / count) / 10_000, longest)
        rank -= count
    return None
