"""The one boundary for broken data: whatever Redis holds becomes a good value, or NotShown.

Anyone who can write to Redis can write what is read here: nothing is executed, nothing grows beyond
a limit, and what is returned can be shown as it is.  Strings can be encoded, JSON is at most 200
deep.
"""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate
from typing import Annotated, Any, TypeVar

from msgspec import Meta
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError

from jiffy import clock, keys
from jiffy.errors import NotShown
from jiffy.redis_io import run_script

T = TypeVar("T")
Moment = Annotated[datetime, Meta(tz=True)]  # in JSON, with its zone
# What Redis gave for a field: its bytes, nothing, or the size of what is too large to be moved.
Raw = bytes | int | None

# Of one value, once decompressed.  A call's arguments are far smaller; a result may be a table.
MOST_BYTES = 1024 * 1024
# In a list, where hundreds are in memory, of one value, also once decompressed: a call that
# compresses well cost minutes and gigabytes.  Of a larger one, only the function is read.
MOST_BYTES_IN_LIST = 16 * 1024
# So many of them there must be for each opening bracket and comma: `[],` alone takes 80 bytes of
# memory, its copy with masks as many, and both 5 µs.
_BYTES_OF_A_VALUE = 16
SHORT, LONG = 300, 20_000  # characters that are shown
_MOST_DEPTH = 200  # Python's own JSON goes down a thousand calls at most
_MOST_DIGITS = 15  # a float holds them all
_PICKLE = b"\x80"  # how every pickle since protocol 2 begins
# Jobs' code and producers write these, so each is measured before Redis copies it.
_MAY_BE_LARGE = ("data", "description", "meta", keys.LOG_FIELD)
_HALF = re.compile("[\ud800-\udfff]")
_NOT_OF_SHAPE = bytes(set(range(256)) - set(b'[]{},"'))
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1, ",": 0}
_PATH = re.compile(rb'\["([\w.]+)"')  # at the beginning of a call's JSON


class Sound(NotShown):
    """A value is sound, and is not shown all the same: it is pickled, or too large."""


def unread(raw: Raw) -> bytes:
    """The bytes as they are.  Raises Sound for what is too large."""
    if isinstance(raw, int):
        raise Sound(f"too large: {raw:,} bytes")
    return raw or b""


def text(raw: Raw) -> str:
    """Any bytes as a string; what is not UTF-8 is replaced."""
    return unread(raw).decode("utf-8", "replace")


def clip(long: str, most: int) -> str:
    """At most `most` characters of `long`; it says where it was cut."""
    return long if len(long) <= most else f"{long[: most - 1]}…"


def line(raw: Raw) -> str:
    return clip(text(raw), SHORT)


def long_text(raw: Raw) -> str:
    return clip(text(raw), LONG)


def number(raw: Raw) -> int | None:
    """A whole number from 0; None where there is none."""
    written = line(raw)
    if written and not (written.isdecimal() and len(written) <= _MOST_DIGITS):
        raise NotShown(f"not a number: {clip(written, 60)!r}")
    return int(written) if written else None


def decimal(raw: Raw) -> float:
    """A number from 0, with decimals; 0 where there is none."""
    written = line(raw)
    with suppress(ValueError):
        if 0 <= (found := float(written or 0)) < 1e15:
            return found
    raise NotShown(f"not a number: {clip(written, 60)!r}")


def moment(raw: Raw) -> datetime | None:
    """The time that RQ wrote, in UTC; None where it wrote none."""
    if not (written := line(raw)):
        return None
    try:
        found = clock.read(written)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise NotShown(f"not a time: {clip(written, 60)!r}") from None


def due(score: float | None) -> datetime | None:
    """The time that a sorted set's score stands for; None where it stands for none."""
    try:
        return None if score is None else clock.from_wall(score)
    except (ValueError, OverflowError, OSError):
        return None


def inflated(raw: Raw, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes behind `raw`, which may be compressed; never more than `most_bytes` of them."""
    packed, inflate = unread(raw), zlib.decompressobj()
    try:
        plain = inflate.decompress(packed, most_bytes)
    except zlib.error:
        return packed  # RQ reads it uncompressed just as well
    if not inflate.eof and len(plain) == most_bytes:
        raise Sound(f"too large: more than {most_bytes:,} bytes")
    return plain if inflate.eof else packed


def value(raw: bytes, most_bytes: int = MOST_BYTES) -> Any:
    """The value of JSON, NaN and infinities too; pickles stay closed."""
    if raw.startswith(_PICKLE):
        raise Sound("pickled: not shown")
    # How many values it has and how deep it is, without going down into it; few are neither.
    most = most_bytes // _BYTES_OF_A_VALUE
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > _MOST_DEPTH or brackets + raw.count(b",") > most:
        unescaped = raw.replace(rb"\\", b"").replace(rb"\"", b"")
        parts = unescaped.translate(None, _NOT_OF_SHAPE).decode().split('"')
        shape = "".join(parts[::2])  # every second part stood in a string
        values = len(shape) - shape.count("]") - shape.count("}")
        if values > most:
            raise Sound(f"too large: {values:,} opening brackets and commas")
        if max(accumulate(map(_STEPS.__getitem__, shape)), default=0) > _MOST_DEPTH:
            raise NotShown(f"nested more than {_MOST_DEPTH} deep")
    try:
        found = json.loads(text(raw))
    except ValueError:
        raise NotShown("not JSON") from None  # which parts are secrets is not known
    if b"\\ud" in raw.lower():  # half a character, perhaps: it could not be written anywhere
        escaped = _HALF.sub(
            lambda half: f"\\\\u{ord(half[0]):04x}", json.dumps(found, ensure_ascii=False)
        )
        found = json.loads(escaped)
    return found


# Keys of another type, and hashes


def answers(pipe: Pipeline) -> list[Any]:
    """The pipe's answers, with None for a key that holds another type than the command is for."""
    found = pipe.execute(raise_on_error=False)
    for one in found:
        if isinstance(one, Exception) and "WRONGTYPE" not in str(one):
            raise one
    return [None if isinstance(one, Exception) else one for one in found]


def answer(command: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The answer to one command, such as `redis.zscore`; None for a key of another type."""
    try:
        return command(*args, **options)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return None


class Fields:
    """Reads a hash field by field, and keeps what was wrong with it."""

    def __init__(self, raw: Mapping[str, Raw] | str, most_bytes: int = MOST_BYTES) -> None:
        self._raw = {} if isinstance(raw, str) else raw
        self._most_bytes = most_bytes
        self.problems = [raw] if isinstance(raw, str) else []
        self.is_broken = isinstance(raw, str)

    def __call__(self, field: str, parse: Callable[[Raw], T], otherwise: T) -> T:
        try:
            return parse(self._raw.get(field))
        except NotShown as reason:
            self.problems.append(f"{field} is {reason}")
            self.is_broken |= not isinstance(reason, Sound)
            return otherwise

    def unpacked(self, field: str, parse: Callable[[Any], T], otherwise: T) -> T:
        """The same of JSON, which may be compressed."""
        most = self._most_bytes
        return self(field, lambda raw: parse(value(inflated(raw, most), most)), otherwise)

    def json(self, field: str, kind: type[T], otherwise: T) -> T:
        """An object or a list; `otherwise` where there is none."""
        if not self._raw.get(field):
            return otherwise

        def parse(found: Any) -> T:
            if not isinstance(found, kind):
                raise NotShown(f"not {'a list' if kind is list else 'an object'}")
            return found

        return self.unpacked(field, parse, otherwise)

    def function(self) -> str:
        """The path at the beginning of a call, which may be too large to be shown."""
        with suppress(zlib.error, TypeError):
            start = zlib.decompressobj().decompress(self._raw.get("data") or b"", 2 * SHORT)  # type: ignore[arg-type]
            if found := _PATH.match(start):
                return text(found[1])
        return ""


def peek(
    redis: Redis,
    names: Sequence[str | bytes],
    fields: Sequence[str],
    most_bytes: int,
    newest: int | None = None,
) -> Iterator[Fields | None]:
    """Some fields of many hashes in one round trip; None for a hash that is not there, or is not
    among the `newest` jobs.
    """
    asked = [f"#{newest}"] * (newest is not None)
    asked += [f"?{field}" if field in _MAY_BE_LARGE else field for field in fields]
    found = run_script(redis, "peek", names, [most_bytes, *asked]) if names else []
    for values in found:
        if isinstance(values, bytes):
            yield Fields(f"its key does not hold a hash: {text(values)}")
        elif all(value is None for value in values):
            yield None
        else:
            yield Fields(dict(zip(fields, values, strict=True)), most_bytes)


def lasted_s(begin: datetime | None, end: datetime | None) -> float | None:
    """How long something lasted; None where one of both times is not known."""
    return None if begin is None or end is None else max(0.0, (end - begin).total_seconds())
