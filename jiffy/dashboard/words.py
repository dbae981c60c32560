"""How pages write durations, times, sizes, values, and when an entry of the schedule runs."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, dropwhile, islice
from typing import Any

from markupsafe import Markup, escape

from jiffy import clock
from jiffy.control.entries import State
from jiffy.control.search import exactly, quoted
from jiffy.control.values import clip
from jiffy.cron_times import Cron
from jiffy.errors import JiffyError
from jiffy.producer.options import in_shell

_MOST_INDENTED, _MOST_SHOWN = 100_000, 20_000  # characters of a result
_CRON = re.compile(r"cron '([^']+)' on the clock of ([\w/+-]+)(.*)", re.DOTALL)
_EVERY = re.compile(r"every ([\d.]+ ?[a-z]+(?:\d+[a-z]+)*)")
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_MOST_TIMES = 4  # a day; more are a list, not a sentence


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
    in_one = clock.in_units(abs(past_s), 1)
    return f"{in_one} ago" if past_s > 0 else f"in {in_one}"


def since(moment: datetime) -> str:
    """How long ago, in two units: 3m4s; the script counts on."""
    return clock.in_units(max(0, round((clock.now() - moment).total_seconds())), 2)


def utc(moment: datetime | None) -> str:
    """To the millisecond, as logs have it."""
    if moment is None:
        return "—"
    moment = moment.astimezone(UTC)  # the next runs of an entry are on the clock of its zone
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC"


def pretty(value: Any) -> str:
    """A value as JSON, on several lines if it is long, cut where it is too long to read."""
    written = json.dumps(value, ensure_ascii=False)
    if 80 <= len(written) <= _MOST_INDENTED:
        written = json.dumps(value, ensure_ascii=False, indent=2)
    return clip(written, _MOST_SHOWN)


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


def dots(name: str) -> Markup:
    """A long path breaks behind its dots, not in the middle of a word."""
    return Markup(".<wbr>").join(name.split("."))


def code(text: str) -> Markup:
    """What stands in backquotes is shown as code."""
    return Markup(re.sub("``?([^`\n]+)``?", r"<code>\1</code>", str(escape(text))))


# The times of an entry, from what Redis holds of them


def times(words: str) -> str:
    """ "every Monday at 06:00, Paris time"; as they are where that would be no shorter."""
    found = _CRON.fullmatch(words)
    cron = _read(found)
    if found is None or cron is None:
        return words
    time, day = _time(cron), _day(cron)
    if not time or not day:
        return words
    place = cron.zone.key.rpartition("/")[2].replace("_", " ")
    zone = "UTC" if place == "UTC" else f"{place} time"
    is_often = time.startswith("every ")
    sentence = f"{day} {time}" if not is_often else time if day == "every day" else f"{time}, {day}"
    return f"{sentence}, {zone}{found[3]}"


def following(entry: State, count: int = 5) -> list[datetime]:
    """The next runs that are not skipped, as far as they are known; on its zone's clock."""
    first, pause, skip = entry.next_at, entry.paused, entry.skip
    if first is None or (pause and not pause.until):
        return []
    start = max(first, pause.until) if pause and pause.until else first
    only = [first] if start == first and not skip else []
    if re.search(" until | times in all", entry.words):
        return only  # it may be the last
    with suppress(OverflowError, ZeroDivisionError, JiffyError):  # odd data; or the calendar ends
        if cron := _read(_CRON.fullmatch(entry.words)):
            times = chain([first], cron.after(max(first, start - timedelta(seconds=1))))
            coming = dropwhile(start.__gt__, times)
            return [one.astimezone(cron.zone) for one in islice(coming, skip, skip + count)]
        if found := _EVERY.match(entry.words):
            step = timedelta(seconds=clock.seconds(found[1]))
            skip += -((first - start) // step)
            return [first + step * number for number in range(skip, skip + count)]
    return only


def _read(found: re.Match[str] | None) -> Cron | None:
    try:
        return None if found is None else Cron.read(found[1], found[2])
    except JiffyError:
        return None


def _time(cron: Cron) -> str:
    seconds, minutes, hours, *_ = cron.fields
    if seconds != (0,):
        return ""
    step = _step(minutes, 60)
    if len(minutes) * len(hours) <= _MOST_TIMES:
        times = [f"{hour:02}:{minute:02}" for hour in hours for minute in minutes]
        return f"at {_listed(times)}"
    if len(minutes) == 1:
        past = f" at {minutes[0]} past" if minutes[0] else ""
        step = _step(hours, 24)
        return f"every {'hour' if step == 1 else f'{step} hours'}{past}" if step else ""
    often = "every minute" if step == 1 else f"every {step} minutes"
    if step and len(hours) == 24:
        return often
    is_span = hours == tuple(range(hours[0], hours[-1] + 1))
    return f"{often} from {hours[0]:02}:00 to {hours[-1]:02}:59" if step and is_span else ""


def _day(cron: Cron) -> str:
    _, _, _, days, months, weekdays = cron.fields
    year = "" if len(months) == 12 else f" in {_listed([_MONTHS[month - 1] for month in months])}"
    if len(days) == 31 and len(weekdays) == 7:
        return f"every day{year}"
    if len(days) == 31:
        if weekdays == (1, 2, 3, 4, 5):
            return f"Monday to Friday{year}"
        return f"every {_listed([_WEEKDAYS[number] for number in weekdays])}{year}"
    if len(weekdays) == 7 and len(days) <= _MOST_TIMES:
        of = f"the month{year}" if year else "every month"
        return f"on day {_listed([str(day) for day in days])} of {of}"
    return ""


def _step(numbers: Sequence[int], of: int) -> int:
    """10 for every tenth number from 0; 0 where they are not so regular."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 0
    return step if step and tuple(numbers) == tuple(range(0, of, step)) and of % step == 0 else 0


def _listed(words: Sequence[str]) -> str:
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


_FILTERS = (
    times, in_shell, exactly, quoted, duration, count, since, ago, utc, pretty, percent, size,
    clock.rate, dots, code, following,
)  # fmt: skip
FILTERS = {one.__name__: one for one in _FILTERS}
