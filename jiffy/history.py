"""History: how many attempts ended how, and how long they waited and ran, over hours and months.

The workers count by the minute, in the round trip that finishes jobs (finish.lua).  Once a minute
is over, a supervisor packs it: into minutes, kept for seven days (those of functions for two),
hours for 90 days, days for 400.  A chunk of one of these is a hash in Redis, with one string
for each function, each queue and the total, and once it is over with one for all functions, one
for all queues.  How long attempts took is kept as a histogram whose buckets double in width.

Every ten seconds it also samples how many jobs wait in each queue and have ended in it, for the
last five minutes, and Redis' memory, for a day.
"""

import json
import zlib
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from redis import Redis
from redis.exceptions import RedisError, ResponseError, WatchError

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
_CODES = [(code, 256 ** array(code).itemsize) for code in "BHIQ"]
_TOO_MANY = 2**53  # for a count
# Unpacked: of all series of a kind, and of one, which has 69 columns of 96 slots at most.
_MOST_BYTES, _MOST_BYTES_OF_ONE = 10_000_000, 100_000
_MOST_FIELDS = 20_000  # of a hash: twice what lib.lua and `_bounded` leave
MEMORY_KEY = keys.history("memory")  # hash: see `memory`
FLOW_S = 300  # how far samples go back
_MOST_SAMPLED = 500  # queues
_MOST_RELEASES = 50
_MEMORY_EVERY_S, _MEMORY_SLOTS = 600, 144

Columns = dict[int, list[int]]


@dataclass(frozen=True)
class _Tier:
    step_s: int
    slots: int  # in a chunk
    kept_s: int

    def key(self, chunk: int) -> str:
        return keys.history(f"{self.step_s}:{chunk}")


_MINUTES = _Tier(60, 60, 7 * _DAY_S)
_HOURS = _Tier(3600, 96, 90 * _DAY_S)
_DAYS = _Tier(_DAY_S, 64, 400 * _DAY_S)
_TIERS = (_MINUTES, _HOURS, _DAYS)
_FUNCTION_MINUTES_S = 2 * _DAY_S  # five more days of fifty functions would take 3 MB more
# The tier, the length of a point, and how many there are; the tier of a glance.
_SPANS = {
    "1h": (_MINUTES, 60, 60, _MINUTES),
    "24h": (_MINUTES, 900, 96, _HOURS),
    "7d": (_HOURS, 3600, 168, _HOURS),
    "90d": (_DAYS, _DAY_S, 90, _DAYS),
}


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
    """What became of all attempts, or those of one queue or function, in one round trip, and
    another to ask for Redis' time where `now_s` is not given.

    Points are a minute, 15 minutes, an hour or a day long, and are there also where nothing ran.
    """
    tier, step_s, count, _ = _SPANS[span]
    series = _series(by, name)
    columns, first_s = _columns(redis, tier, step_s, count, series, now_s)
    found = columns.get(series, {})
    return _points(found, first_s, step_s, count, step_s // tier.step_s)


def _points(columns: Columns, first_s: int, step_s: int, count: int, width: int = 1) -> Series:
    """`count` points of `width` slots each, and the whole."""
    points = [
        _point(first_s + place * step_s, step_s, columns, place * width, width)
        for place in range(count)
    ]
    return Series(tuple(points), _point(first_s, step_s * count, columns, 0, width * count))


@dataclass(frozen=True)
class Glance:
    """All attempts over a time, and what each function and queue had of them."""

    series: Series
    functions: Mapping[str, Point]  # what ran longest first
    queues: Mapping[str, Point]


def glance(redis: Redis, span: Span, now_s: float) -> Glance:
    """What became of all attempts, and of those of each function and queue, in one round trip.

    Points are a minute, an hour or a day long; `now_s` is Redis' time.
    """
    _, step_s, count, tier = _SPANS[span]
    count = step_s * count // tier.step_s
    columns, first_s = _columns(redis, tier, tier.step_s, count, None, now_s)
    whole = {
        series: _point(first_s, tier.step_s * count, found, 0, count)
        for series, found in columns.items()
        if any(map(any, found.values()))
    }
    longest = sorted(whole.items(), key=lambda one: one[1].ran_s, reverse=True)
    return Glance(
        _points(columns.get(_TOTAL, {}), first_s, tier.step_s, count),
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
        return sorted((float(at_s), int(used)) for at_s, used in map(json.loads, stored or ()))
    except (ValueError, TypeError, OverflowError, RecursionError):  # odd data
        return []


def stored_keys(now_s: float) -> list[str]:
    """Everything that is kept for longer than half an hour."""
    chunks = [
        tier.key(chunk)
        for tier in _TIERS
        for chunk in range(
            int((now_s - tier.kept_s) // tier.step_s // tier.slots),
            int(now_s // tier.step_s // tier.slots) + 1,
        )
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
    minutes = range(this - _UNPACKED, this + 1)
    found = _readable(redis, map(_now_key, minutes))
    there = [minute for minute in minutes if _now_key(minute) in found]
    with suppress(ResponseError):  # a key of another type
        sample(redis, now_s, there)
        compress(redis, now_s)
    for minute in there:
        if minute < this:
            _pack_minute(redis, minute)


def _readable(redis: Redis, names: Iterable[str]) -> list[str]:
    """Those that are hashes of a size that ours may have; nothing else is read."""
    asked = [*names]
    with redis.pipeline(transaction=False) as pipe:
        for name in asked:
            pipe.hlen(name)
            pipe.memory_usage(name, samples=0)  # not every Redis may be asked
        sizes = pipe.execute(raise_on_error=False)
    return [
        name
        for name, size, used in zip(asked, sizes[::2], sizes[1::2], strict=True)
        if isinstance(size, int) and 0 < size <= _MOST_FIELDS
        if not isinstance(used, int) or used <= _MOST_BYTES
    ]


def _drop_odd(redis: Redis, names: Collection[str]) -> None:
    """Delete those that are not ours."""
    if odd := {*names} - {*_readable(redis, names)}:
        redis.delete(*odd)


class _Look(NamedTuple):
    """All queues at one time: by name how many jobs wait, and by minute and name how many attempts
    have ended, in each minute that is not packed.
    """

    at_s: float
    waiting: Mapping[str, int]
    ended: Mapping[str, Mapping[str, int]]

    def sample(self, name: str, before: "_Look") -> Sample:
        ended = sum(
            counts.get(name, 0) - before.ended.get(minute, {}).get(name, 0)
            for minute, counts in self.ended.items()
        )
        return Sample(self.at_s, self.waiting.get(name, 0), max(0, ended))


_NO_LOOK = _Look(0, {}, {})


@lru_cache(2 * FLOW_S // PACK_EVERY_S)
def _look(blob: bytes) -> _Look:
    with suppress(ValueError, TypeError, AttributeError, RecursionError, zlib.error):
        look = _Look(*json.loads(zlib.decompressobj().decompress(blob, 1_000_000)))
        counts = [count for one in (look.waiting, *look.ended.values()) for count in one.values()]
        is_ours = all(type(count) is int and 0 <= count < _TOO_MANY for count in counts)
        if is_ours and len(counts) <= _MOST_FIELDS and 0 <= look.at_s < _TOO_MANY:
            return look
    return _NO_LOOK


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
    chunks = [(tier, *divmod(at_s // tier.step_s, tier.slots)) for tier in _TIERS]
    _drop_odd(redis, [tier.key(chunk) for tier, chunk, _ in chunks])
    with redis.pipeline() as pipe:
        pipe.watch(key)
        raw: Any = pipe.hgetall(key)
        if not raw:  # another process has packed it meanwhile
            return
        known: Any = pipe.zrange(keys.history("names"), 0, _MOST_FIELDS, desc=True, withscores=True)
        counted = _bounded(
            _counted(raw), {name.decode("utf-8", "replace"): seen for name, seen in known}, at_s
        )
        stored: Any = [pipe.hmget(tier.key(chunk), list(counted)) for tier, chunk, _ in chunks]
        pipe.multi()
        for (tier, chunk, slot), blobs in zip(chunks, stored, strict=True):
            packed: dict[Any, Any] = {}
            before = _stored(dict(zip(map(str.encode, counted), blobs, strict=True)), tier.slots)
            for series, counts in counted.items():
                columns = before.get(series, {})
                for index, count in counts.items():
                    columns.setdefault(index, [0] * tier.slots)[slot] += count
                packed[series] = zlib.compress(_packed(columns, is_open=slot), 9)
            if packed:
                pipe.hset(tier.key(chunk), mapping=packed)
                pipe.expire(tier.key(chunk), tier.kept_s + tier.slots * tier.step_s)
        names = {series: at_s for series in counted if series != _TOTAL}
        if names:
            pipe.zadd(keys.history("names"), names)
        pipe.zremrangebyscore(keys.history("names"), "-inf", at_s - _FORGOTTEN_AFTER_S)
        pipe.delete(key)
        with suppress(WatchError):  # the same
            pipe.execute()


def compress(redis: Redis, now_s: int) -> None:
    """Pack a chunk of each tier, in turn, into one string for each kind of series: that halves
    what it takes in Redis.  Chunks that minutes may still be added to are left alone.
    """
    for tier in _TIERS:
        chunk_s = tier.step_s * tier.slots
        newest = (now_s - 60 * (_UNPACKED + 1)) // chunk_s - 1
        chunk = newest - now_s // PACK_EVERY_S % (tier.kept_s // chunk_s)
        is_kept = tier is not _MINUTES or (chunk + 1) * chunk_s > now_s - _FUNCTION_MINUTES_S
        kinds = [_TOTAL, "q:", "f:"] if is_kept else [_TOTAL, "q:"]
        if not _readable(redis, [tier.key(chunk)]):
            continue
        with redis.pipeline() as pipe:
            pipe.watch(tier.key(chunk))
            fields: Any = pipe.hkeys(tier.key(chunk))
            needless = set(fields) - {_ALL + kind.encode() for kind in kinds}
            if not needless:
                continue
            blobs: Any = pipe.hgetall(tier.key(chunk))
            pipe.multi()
            found = _stored(blobs, tier.slots)
            for kind in kinds:
                parts = {name: _packed(of) for name, of in found.items() if name[:2] == kind}
                sizes = json.dumps([(name, len(part)) for name, part in parts.items()]).encode()
                whole = zlib.compress(b"\n".join([sizes, b"".join(parts.values())]), 9)
                pipe.hset(tier.key(chunk), _ALL + kind.encode(), whole)
            pipe.hdel(tier.key(chunk), *needless)
            with suppress(WatchError):  # another process has done it meanwhile
                pipe.execute()


_TOTAL = "t:"
_ALL = b"*"  # before a kind: the field with all series of it


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
    counted: dict[str, dict[int, int]], known: Mapping[str, float], at_s: int
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
    redis: Redis, tier: _Tier, step_s: int, count: int, only: str | None, at_s: float | None = None
) -> tuple[dict[str, Columns], int]:
    """Columns by series (or `only` one), of the slots of a tier from the first of `count` points
    on; and when that begins.
    """
    now_s = int(redis.time()[0] if at_s is None else at_s)
    first_s = (now_s // step_s - count + 1) * step_s
    first, width = first_s // tier.step_s, count * step_s // tier.step_s
    chunks: Iterable[int] = range(first // tier.slots, (first + width - 1) // tier.slots + 1)
    minutes: Iterable[int] = range(now_s // 60 - _UNPACKED, now_s // 60 + 1)
    wanted = [(only or "").encode(), _ALL + (only or "")[:2].encode()]
    there = _readable(redis, [*map(tier.key, chunks), *map(_now_key, minutes)])
    chunks = [chunk for chunk in chunks if tier.key(chunk) in there]
    minutes = [minute for minute in minutes if _now_key(minute) in there]
    with redis.pipeline() as pipe:  # a transaction: what is packed meanwhile counts once
        for chunk in chunks:
            pipe.hmget(tier.key(chunk), *wanted) if only else pipe.hgetall(tier.key(chunk))
        for minute in minutes:
            pipe.hgetall(_now_key(minute))
        answers = [{} if isinstance(one, ResponseError) else one  # a key of another type
                   for one in pipe.execute(raise_on_error=False)]  # fmt: skip
    found: dict[str, Columns] = defaultdict(dict)
    for chunk, answer in zip(chunks, answers, strict=False):
        blobs = answer if isinstance(answer, dict) else dict(zip(wanted, answer, strict=True))
        stored = _stored(blobs, tier.slots, only)
        _add_chunk(found, stored, tier.slots, chunk * tier.slots - first, width)
    for minute, raw in zip(minutes, answers[len(chunks) :], strict=True):
        slot = minute * 60 // tier.step_s - first
        for name, counted in _counted(raw).items():
            if 0 <= slot < width and only in (None, name):
                for index, count in counted.items():
                    found[name].setdefault(index, [0] * width)[slot] += count
    return found, first_s


def _add_chunk(
    found: dict[str, Columns], stored: dict[str, Columns], slots: int, offset: int, width: int
) -> None:
    """`offset` is the place of the chunk's first slot in a row of that width."""
    begin, end = max(0, -offset), min(slots, width - offset)
    for series, columns in stored.items():
        for index, counts in columns.items():
            column = found[series].setdefault(index, [0] * width)
            column[offset + begin : offset + end] = counts[begin:end]


def _packed(columns: Columns, is_open: int | None = None) -> bytes:
    """Times are rounded, which halves what they take, but for the slot that still grows."""
    parts = []
    for index, counts in sorted(columns.items()):
        if index >= _RAN_MS:
            digits = 6 if index == _RAN_MS else 2
            counts = [
                count if slot == is_open else _rounded(count, digits)
                for slot, count in enumerate(counts)
            ]
        code = next(code for code, most in _CODES if max(counts) < most)
        parts += [bytes([index, ord(code)]), array(code, counts).tobytes()]
    return b"".join(parts)


def _rounded(count: int, digits: int) -> int:
    """As exact as so many binary digits."""
    shift = max(count.bit_length() - digits, 0)
    return (count + (1 << shift >> 1)) >> shift << shift


def _stored(
    blobs: Mapping[bytes, bytes | None], slots: int, only: str | None = None
) -> dict[str, Columns]:
    """The series (or `only` one) in these fields of a chunk, without those that are not ours."""
    found: dict[str, Columns] = {}
    wholes = {_ALL + kind.encode() for kind in (_TOTAL, "q:", "f:")}
    for field, blob in blobs.items():
        with suppress(ValueError, TypeError, LookupError, RecursionError, zlib.error):
            most_bytes = _MOST_BYTES if field in wholes else _MOST_BYTES_OF_ONE
            raw = zlib.decompressobj().decompress(blob or b"", most_bytes)
            sizes: Any = [(field.decode("utf-8", "replace"), len(raw))]
            if field in wholes:
                head, _, raw = raw.partition(b"\n")
                sizes = json.loads(head)
            for name, size in sizes:
                part, raw = raw[:size], raw[size:]
                if only in (None, name):
                    found[str(name)] = _unpacked(part, slots)
    return found


def _unpacked(raw: bytes, slots: int) -> Columns:
    """The columns that `_packed` was given; raises ValueError or LookupError for other data."""
    columns: Columns = {}
    while raw:
        counts = array({ord(code): code for code, _ in _CODES}[raw[1]])
        size = 2 + slots * counts.itemsize
        counts.frombytes(raw[2:size])
        if len(counts) != slots or max(counts) >= _TOO_MANY:
            raise ValueError("not counts of ours")
        columns[raw[0]], raw = counts.tolist(), raw[size:]
    return columns


def _point(start_s: int, seconds: int, columns: Columns, first: int, width: int) -> Point:
    sums = {index: sum(counts[first : first + width]) for index, counts in columns.items()}
    ends = {what: sums.get(index, 0) for index, what in enumerate(ENDS)}
    return Point(
        start=clock.from_wall(start_s),
        seconds=seconds,
        **ends,
        ran_s=sums.get(_RAN_MS, 0) / 1000,
        waited=_times(sums.get(_WAITED + number, 0) for number in range(_BUCKETS)),
        ran=_times(sums.get(_RAN + number, 0) for number in range(_BUCKETS)),
    )


def _times(counts: Iterable[int]) -> Times:
    counts = list(counts)
    total = sum(counts)
    return Times(*(_percentile(counts, total, share) for share in (0.5, 0.95)))


def _percentile(counts: list[int], total: int, share: float) -> float | None:
    """Where in its bucket it lies is a guess: as far as its rank there."""
    rank = share * total
    for number, count in enumerate(counts):
        if count and rank <= count:
            low = 0.0 if number == 0 else 2.0 ** (number - 1)
            return (low + (2.0**number - low) * rank / count) / 10_000
        rank -= count
    return None
