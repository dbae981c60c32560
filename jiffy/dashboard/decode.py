"""Turn what stands in Redis into values to show.

Anybody who can write to Redis can write here: nothing is executed, nothing grows beyond a limit.
What cannot be shown raises NotShown with the reason.
"""

import json
import zlib
from datetime import UTC, datetime
from typing import Any

from jiffy import clock
from jiffy.errors import NotShown

# Of one value, once decompressed.  A call's arguments are far smaller; a result may be a table.
MOST_BYTES = 1024 * 1024
# Whoever reads or writes a value goes down into it, and Python goes down a thousand calls at most.
_MOST_DEPTH = 200
_PICKLE = b"\x80"  # how every pickle since protocol 2 begins
_SHOWN_OF_BROKEN = 60

# What Redis gave for a field: its bytes, nothing, or the size of what is too large to be moved.
Raw = bytes | int | None


def text(raw: Raw) -> str:
    """Any bytes as text; what is not UTF-8 is replaced."""
    return _whole(raw).decode("utf-8", "replace")


def inflated(raw: Raw) -> bytes:
    """The bytes behind `raw`, which may be compressed; never more than MOST_BYTES of them."""
    packed = _whole(raw)
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(packed, MOST_BYTES)
    except zlib.error:
        return packed  # RQ reads it uncompressed just as well
    if inflate.unconsumed_tail:
        raise NotShown(f"too large: more than {MOST_BYTES:,} bytes")
    return plain


def value(raw: bytes) -> Any:
    """The value that JSON stands for, NaN and infinities too; pickles stay closed."""
    if raw.startswith(_PICKLE):
        raise NotShown("pickled: not shown")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        start = raw[:_SHOWN_OF_BROKEN].decode("utf-8", "replace")
        raise NotShown(f"not JSON: {start!r}") from None
    if is_deeper(found, _MOST_DEPTH):
        raise NotShown(f"nested more than {_MOST_DEPTH} deep")
    return found


def is_deeper(value: Any, most: int) -> bool:
    """Whether it is nested more than `most` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(
        is_deeper(one, most - 1) for one in inner if isinstance(one, dict | list)
    )


def with_plain_numbers(value: Any) -> Any:
    """The same with NaN and infinities as texts: no browser could read them as JSON."""
    return json.loads(json.dumps(value), parse_constant=str)


def time(raw: Raw) -> datetime | None:
    """The moment that RQ wrote, in UTC; None where it wrote none."""
    written = text(raw)
    if not written:
        return None
    try:
        moment = clock.read(written)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise NotShown(f"not a time: {written[:_SHOWN_OF_BROKEN]!r}") from None


def due(score: float | None) -> datetime | None:
    """The time that a registry's score stands for; None where it stands for none."""
    try:
        return None if score is None else clock.from_wall(score)
    except (ValueError, OverflowError, OSError):
        return None


def clip(long: str, most: int) -> str:
    """At most `most` characters of `long`; it says where it was cut."""
    return long if len(long) <= most else f"{long[: most - 1]}…"


def _whole(raw: Raw) -> bytes:
    if isinstance(raw, int):
        raise NotShown(f"too large: {raw:,} bytes")
    return raw or b""
