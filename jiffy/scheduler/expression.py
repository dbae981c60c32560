"""A cron expression: read once, then asked for the wall-clock times that it names.

Nothing here knows of time zones: `timing.py` turns wall-clock times into moments.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from jiffy.errors import InvalidCron

# Every combination of a date and a weekday comes back within 40 years, also across the year 2100.
_HORIZON_DAYS = 40 * 366
_ONE_DAY = timedelta(days=1)
_SOME_DAY = datetime.combine(date(2000, 1, 1), time())


@dataclass(frozen=True)
class _Field:
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()

    def range_in_words(self) -> str:
        words = f", or {self.words[0]} to {self.words[-1]}" if self.words else ""
        return f"{self.name}s go from {self.first} to {self.last}{words}"


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),  # 0 and 7 are both Sunday
)
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True)
class Expression:
    """A cron expression's five fields, as the sorted numbers that each one allows."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    any_day: bool
    any_weekday: bool

    @classmethod
    def read(cls, text: str) -> "Expression":
        """Read `minute hour day month weekday` or one of @hourly, @daily, @weekly, ...

        Raises InvalidCron, which names the field and what it may be.
        """
        words = _in_full(text).split()
        if len(words) != len(_FIELDS):
            raise InvalidCron(
                text, f"has {len(words)} fields; it needs five: minute hour day month weekday"
            )
        minutes, hours, days, months, weekdays = (
            _numbers(text, word.lower(), field) for word, field in zip(words, _FIELDS, strict=True)
        )
        weekdays = tuple(sorted({weekday % 7 for weekday in weekdays}))
        stars = (words[2].startswith("*"), words[4].startswith("*"))
        found = cls(text, minutes, hours, days, months, weekdays, *stars)
        if next(found.walls_after(_SOME_DAY), None) is None:
            raise InvalidCron(text, "never comes: no month has such a day")
        return found

    def walls_after(self, wall: datetime) -> Iterator[datetime]:
        """Yield the naive wall-clock times after `wall` that the expression names, in order."""
        day = wall.date()
        for _ in range(_HORIZON_DAYS):
            if self._names(day):
                yield from self._walls_of(day, wall)
            day += _ONE_DAY

    def _walls_of(self, day: date, after: datetime) -> Iterator[datetime]:
        for hour in self.hours:
            if day == after.date() and hour < after.hour:
                continue
            for minute in self.minutes:
                found = datetime.combine(day, time(hour, minute))
                if found > after:
                    yield found

    def _names(self, day: date) -> bool:
        """Cron's old rule: a day and a weekday that are both given are alternatives."""
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday


def _in_full(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return _SHORT[text.lower()]
    except KeyError:
        near = difflib.get_close_matches(text.lower(), _SHORT, 1, 0.0)[0]
        raise InvalidCron(text, f"is no short form (did you mean {near!r}?)") from None


def _numbers(text: str, word: str, field: _Field) -> tuple[int, ...]:
    numbers: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        first, last = _span(text, span, field, is_open=bool(slash))
        if slash and (not step.isdecimal() or int(step) < 1):
            raise InvalidCron(text, f"has {field.name} step {step!r}; a step is a number from 1")
        numbers.update(range(first, last + 1, int(step or 1)))
    return tuple(sorted(numbers))


def _span(text: str, span: str, field: _Field, *, is_open: bool) -> tuple[int, int]:
    """The ends of `*`, `5` or `1-5`; an open one, as in `5/10`, goes on to the field's last."""
    if span == "*":
        return field.first, field.last
    start, dash, end = span.partition("-")
    first = _number(text, start or span, field)
    if not dash:
        return first, field.last if is_open else first
    last = _number(text, end or span, field)
    if field.name == "weekday" and last == 0:  # fri-sun
        last = 7
    if last < first:
        raise InvalidCron(
            text, f"has {field.name} {span}, which runs backwards; write the smaller number first"
        )
    return first, last


def _number(text: str, word: str, field: _Field) -> int:
    if word in field.words:
        return field.words.index(word) + field.first
    if not word.isdecimal() or not field.first <= int(word) <= field.last:
        shown = word if word.isdecimal() else repr(word)
        raise InvalidCron(text, f"has {field.name} {shown}; {field.range_in_words()}")
    return int(word)
