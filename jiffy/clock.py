"""What time it is, and how long things take.  Tests replace it by a clock that they can move."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from jiffy.errors import InvalidValue

monotonic = time.monotonic

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])\s*")

Duration = float | str | timedelta
# A hundred years: more means "never", and neither Redis nor a calendar can hold it.
LONGEST_S = 100 * 365 * 86400


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def wall() -> float:
    """Seconds since the epoch."""
    return time.time()


def from_wall(wall_s: float) -> datetime:
    """The moment `wall_s` seconds after the epoch."""
    return datetime.fromtimestamp(wall_s, UTC)


def read(text: str) -> datetime:
    """The moment that an ISO string means; naive if it has no "Z" or offset.  Raises ValueError."""
    return datetime.fromisoformat(text)


def in_calendar(moment: datetime, name: str) -> datetime:
    """The aware `moment`; InvalidValue if UTC has no such year, as what is stored is to be read."""
    try:
        from_wall(moment.timestamp())
    except (ValueError, OverflowError):
        raise InvalidValue(name, moment.isoformat(), "in the years 1 to 9999 of UTC") from None
    return moment


def rq_text(wall_s: float) -> str:
    """As rq.utils.utcformat writes a moment."""
    return rq_texts(wall_s)[0]


def rq_texts(wall_s: float) -> tuple[str, str]:
    """A moment as RQ writes it, and in seconds, in a sixth of RQ's time: a job has two moments."""
    digits = f"{round(wall_s * 1e6):07d}"
    whole_s, rest = digits[:-6], digits[-6:]
    return f"{_second_text(whole_s)}.{rest}Z", f"{whole_s}.{rest}"


@lru_cache(maxsize=64)
def _second_text(whole_s: str) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(whole_s)))


def rq_seconds(raw: bytes) -> float | None:
    """Seconds since the epoch of what `rq_text` writes; None for any other text."""
    try:
        return _second_of(raw[:20]) + int(raw[20:26]) / 1e6 if raw[26:] == b"Z" else None
    except ValueError:
        return None


@lru_cache(maxsize=1000)
def _second_of(raw: bytes) -> int:  # with the point that follows
    return int(datetime.fromisoformat(f"{raw.decode()}000000+00:00").timestamp())


def pause(duration_s: float) -> None:
    """Wait that long."""
    time.sleep(duration_s)


def seconds(duration: Duration, name: str = "duration") -> float:
    """Convert 90, "90", "1m30s" or a timedelta, of LONGEST_S at most.  Raises InvalidValue."""
    found: Duration | None = duration
    if isinstance(duration, timedelta):
        found = duration.total_seconds()
    if isinstance(duration, str):
        text = re.sub(r"^\d+(\.\d+)?$", r"\g<0>s", duration.strip())
        parts = _PART.findall(text) if re.fullmatch(f"(?:{_PART.pattern})+", text) else ()
        found = sum(float(number) * _UNITS_S[unit] for number, unit in parts) if parts else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not found >= 0:
        raise InvalidValue(
            name, duration, "0 or more seconds, or a string such as '90s', '5m' or '1h30m'"
        )
    if found > LONGEST_S:
        raise InvalidValue(name, duration, "100 years at most")
    return found


def in_words(duration_s: float) -> str:
    """A duration as people write it: 0.25 -> "250 ms", 90 -> "1m30s", 7200 -> "2h"."""
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 60:
        return f"{duration_s:.3g} s"
    return in_units(round(duration_s))


def in_units(seconds: int, most: int = 4) -> str:
    """Whole seconds in so many units at most: 90000, 1 -> "1d"; 0 -> "0s"."""
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, int(_UNITS_S[unit]))
        if count and len(parts) < most:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def rate(per_s: float) -> str:
    """0.2 -> "12/min"."""
    if not per_s:
        return "0"
    unit, times = next((one for one in (("s", 1), ("min", 60)) if per_s * one[1] >= 1), ("h", 3600))
    found = per_s * times
    return f"{found:,.0f}/{unit}" if found >= 10 else f"{found:.1f}/{unit}"
