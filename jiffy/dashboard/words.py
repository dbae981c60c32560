"""How pages write times, durations and values."""

import json
from datetime import datetime
from typing import Any

from jiffy import clock
from jiffy.dashboard import decode

_MOST_OF_A_RESULT = 20_000


def duration(seconds: float | None) -> str:
    """90 -> "1m30s"; "—" for what has none."""
    if seconds is not None and 0 < seconds < 0.001:
        return "<1 ms"
    return "—" if seconds is None else clock.in_words(seconds)


def ago(moment: datetime | None) -> str:
    """A moment from here: 5s ago, in 2h.  Only the largest unit is told."""
    if moment is None:
        return "—"
    past_s = round((clock.now() - moment).total_seconds())
    if abs(past_s) < 1:
        return "now"
    return f"{_coarse(past_s)} ago" if past_s > 0 else f"in {_coarse(-past_s)}"


def utc(moment: datetime | None) -> str:
    """To the millisecond, as logs have it."""
    return (
        "—" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC"
    )


def pretty(value: Any) -> str:
    """A result as JSON, in several lines if it is large, cut where it is too large to read."""
    line = json.dumps(value, ensure_ascii=False)
    many = line if len(line) < 80 else json.dumps(value, ensure_ascii=False, indent=2)
    return decode.clip(many, _MOST_OF_A_RESULT)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.0%}"


def _coarse(seconds: int) -> str:
    """Only the largest unit: 3725 -> "1h"."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


FILTERS = {"duration": duration, "ago": ago, "utc": utc, "pretty": pretty, "percent": percent}
