"""The pages, one module each, and how they write times, durations and values."""

import json
import re
from datetime import datetime
from typing import Any

from flask import request
from markupsafe import Markup, escape

from jiffy import clock
from jiffy.control import read
from jiffy.dashboard import times

_MOST_INDENTED, _MOST_SHOWN = 100_000, 20_000  # characters of a result


def duration(seconds: float | None) -> str:
    """90 -> "1m30s"; "—" for what has none."""
    if seconds is not None and 0 < seconds < 0.001:
        return "<1 ms"
    return "—" if seconds is None else clock.in_words(seconds)


def ago(moment: datetime | None) -> str:
    """A moment relative to now, in its largest unit: 5s ago, in 2h.  The script does the same."""
    if moment is None:
        return "—"
    past_s = round((clock.now() - moment).total_seconds())
    if abs(past_s) < 1:
        return "now"
    return f"{_units(past_s, 1)} ago" if past_s > 0 else f"in {_units(-past_s, 1)}"


def since(moment: datetime) -> str:
    """How long ago, in two units: 3m4s; the script counts on."""
    return _units(max(0, round((clock.now() - moment).total_seconds())), 2)


def _units(seconds: int, most: int) -> str:
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and len(parts) < most:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(parts) or "0s"


def utc(moment: datetime | None) -> str:
    """To the millisecond, as logs have it."""
    if moment is None:
        return "—"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC"


def pretty(value: Any) -> str:
    """A value as JSON, on several lines if it is long, cut where it is too long to read."""
    written = json.dumps(value, ensure_ascii=False)
    if 80 <= len(written) <= _MOST_INDENTED:
        written = json.dumps(value, ensure_ascii=False, indent=2)
    return read.clip(written, _MOST_SHOWN)


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.0%}"


def count(number: int) -> str:
    return f"{number:,}"


def size(size_bytes: float) -> str:
    """1536 -> "1.5 kB"."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1024:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.3g} GB"


def rate(per_s: float) -> str:
    """0.2 -> "12/min"."""
    if not per_s:
        return "0"
    unit, times = next((one for one in (("s", 1), ("min", 60)) if per_s * one[1] >= 1), ("h", 3600))
    found = per_s * times
    return f"{found:,.0f}/{unit}" if found >= 10 else f"{found:.1f}/{unit}"


def dots(name: str) -> Markup:
    """A long path breaks behind its dots, not in the middle of a word."""
    return Markup(".<wbr>").join(name.split("."))


def code(text: str) -> Markup:
    """What stands in backquotes is shown as code."""
    return Markup(re.sub("``?([^`\n]+)``?", r"<code>\1</code>", str(escape(text))))


def first_shown(total: int) -> int:
    """From where on a page of a list shows its rows: `?from=`, where that is one."""
    first = request.args.get("from", "0")
    return min(int(first), max(0, total - 1)) if re.fullmatch("[0-9]{1,9}", first) else 0


FILTERS = {
    "times": times.in_words,
    "duration": duration,
    "count": count,
    "since": since,
    "ago": ago,
    "utc": utc,
    "pretty": pretty,
    "percent": percent,
    "size": size,
    "rate": rate,
    "dots": dots,
    "code": code,
}
