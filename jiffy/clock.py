"""What time it is, and how long things take.  Tests put in a clock that they can move."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from jiffy.errors import InvalidValue

monotonic = time.monotonic

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")

Duration = float | str | timedelta
# A hundred years: what is over it means "for ever", and neither Redis nor a calendar can count it.
LONGEST_S = 100 * 365 * 86400


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def wall() -> float:
    """Seconds since the epoch."""
    return time.time()


def from_wall(wall_s: float) -> datetime:
    """The moment that is `wall_s` seconds after the epoch."""
    return datetime.fromtimestamp(wall_s, UTC)


def read(text: str) -> datetime:
    """The moment that an ISO text stands for, "Z" or an offset being its zone.

    It has no zone where the text has none.  Raises ValueError.
    """
    return datetime.fromisoformat(text)


def in_calendar(moment: datetime, name: str) -> datetime:
    """`moment`, which has a zone; `name` is what the error calls it.

    Raises InvalidValue where UTC has no such year: it could be stored, but never be read again.
    """
    try:
        from_wall(moment.timestamp())
    except (ValueError, OverflowError):
        raise InvalidValue(name, moment.isoformat(), "in the years 1 to 9999 of UTC") from None
    return moment


def rq_text(wall_s: float) -> str:
    """A moment as RQ writes it (rq.utils.utcformat): 2026-11-20T13:04:09.123456Z.

    Its own way takes four times as long, and each job has two of them.
    """
    whole_s, microseconds = divmod(round(wall_s * 1e6), 1_000_000)
    return f"{_second_text(whole_s)}.{microseconds:06d}Z"


@lru_cache(maxsize=64)
def _second_text(whole_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole_s))


def pause(duration_s: float) -> None:
    """Wait that long."""
    time.sleep(duration_s)


def seconds(duration: Duration, name: str = "duration") -> float:
    """Turn 90, "90", "1m30s" or a timedelta into seconds; `name` is what the error calls it.

    Raises InvalidValue for anything else, for what is negative, and for more than LONGEST_S.
    """
    given = duration
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, str):
        duration = _parse(duration.strip(), name)
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not duration >= 0:
        raise InvalidValue(name, given, "seconds, or a text such as '90s', '5m' or '1h30m'")
    if duration > LONGEST_S:
        raise InvalidValue(name, given, "100 years at most")
    return duration


def _parse(text: str, name: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise InvalidValue(name, text, "seconds, or a text such as '90s', '5m' or '1h30m'")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def in_words(duration_s: float) -> str:
    """A duration as a person writes it: 0.25 -> "250 ms", 90 -> "1m30s", 7200 -> "2h"."""
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 60:
        return f"{duration_s:.3g} s"
    left, words = round(duration_s), ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(_UNITS_S[unit]))
        words += f"{count}{unit}" if count else ""
    return words
