"""A cron expression: read once, then asked for the wall-clock times that it names.

Nothing here knows of time zones: `timing.py` turns wall-clock times into moments.
"""

import difflib
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from jiffy.errors import InvalidCron

# Every combination of a date and a weekday comes back within 40 years, also across the year 2100.
_HORIZON_DAYS = 40 * 366
_ONE_DAY = timedelta(days=1)
_SOME_DAY = date(2000, 1, 1)


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
_SECOND = _Field("second", 0, 59)
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),  # 0 and 7 are both Sunday
)
_NEEDED = f"it needs five: {' '.join(field.name for field in _FIELDS)}; or six, the second first"
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_NUMBER = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True)
class Expression:
    """A cron expression's fields, as the sorted numbers that each one allows."""

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    any_day: bool
    any_weekday: bool

    @classmethod
    def read(cls, text: str) -> "Expression":
        """Read `minute hour day month weekday`, these with a second in front, or @hourly, @daily …

        Raises InvalidCron, which names the field, its place in `text`, and what it may be.
        """
        words = _words(text)
        seconds, minutes, hours, days, months, weekdays = (
            _numbers(word, field) for word, field in zip(words, (_SECOND, *_FIELDS), strict=True)
        )
        weekdays = tuple(sorted({weekday % 7 for weekday in weekdays}))
        stars = (words[3].text.startswith("*"), words[5].text.startswith("*"))
        found = cls(" ".join(text.split()), seconds, minutes, hours, days, months, weekdays, *stars)
        if not any(found._names(_SOME_DAY + n * _ONE_DAY) for n in range(_HORIZON_DAYS)):
            raise words[3].wrong(f"has day {words[3].text}", "it never comes: no such month has it")
        return found

    @property
    def identity(self) -> str:
        """The same text for all spellings of the same times."""
        fields = (self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays)
        masks = [f"{sum(1 << number for number in numbers):x}" for numbers in fields]
        return " ".join([*masks, "and" if self._needs_both else "or"])

    def walls_after(self, wall: datetime) -> Iterator[datetime]:
        """Yield the naive wall-clock times after `wall` that the expression names, in order."""
        day = wall.date()
        while day < date.max:
            if self._names(day):
                yield from self._walls_of(day, wall)
            day += _ONE_DAY

    def _walls_of(self, day: date, after: datetime) -> Iterator[datetime]:
        is_first = day == after.date()
        for hour in _from(after.hour if is_first else 0, self.hours):
            is_first = is_first and hour == after.hour
            for minute in _from(after.minute if is_first else 0, self.minutes):
                for second in self.seconds:
                    found = datetime.combine(day, time(hour, minute, second))
                    if found > after:
                        yield found

    def _names(self, day: date) -> bool:
        """Cron's old rule: a day and a weekday that are both given are alternatives."""
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_day and by_weekday) if self._needs_both else (by_day or by_weekday)

    @property
    def _needs_both(self) -> bool:
        return self.any_day or self.any_weekday


@dataclass(frozen=True)
class _Word:
    """A piece of an expression, and where it stands there: at which character, from 1."""

    expression: str
    position: int
    text: str

    def split(self, mark: str, most: int = -1) -> list["_Word"]:
        words, position = [], self.position
        for text in self.text.split(mark, most):
            words.append(_Word(self.expression, position, text))
            position += len(text) + len(mark)
        return words

    def wrong(self, what: str, must: str) -> InvalidCron:
        return InvalidCron(self.expression, what, self.position, must)


def _words(text: str) -> list[_Word]:
    """The six fields of an expression; those that it does not spell out stand at its start."""
    found = re.finditer(r"\S+", text)
    words = [_Word(text, word.start() + 1, word.group()) for word in found]
    if len(words) == 1 and words[0].text.startswith("@"):
        words = _in_full(words[0])
    if len(words) < len(_FIELDS):
        end = _Word(text, len(text) + 1, "")
        raise end.wrong(f"has {len(words)} fields and misses the next one", _NEEDED)
    if len(words) > len(_FIELDS) + 1:
        raise words[len(_FIELDS) + 1].wrong(f"has {len(words)} fields, one too many", _NEEDED)
    return words if len(words) > len(_FIELDS) else [_Word(text, 1, "0"), *words]


def _in_full(word: _Word) -> list[_Word]:
    short = word.text.lower()
    if short not in _SHORT:
        near = difflib.get_close_matches(short, _SHORT, 1, 0.0)[0]
        raise word.wrong(f"has {word.text!r}", f"the nearest short form is {near!r}")
    return [_Word(word.expression, word.position, text) for text in _SHORT[short].split()]


def _numbers(word: _Word, field: _Field) -> tuple[int, ...]:
    numbers: set[int] = set()
    for part in word.split(","):
        span, *steps = part.split("/", 1)
        first, last = _span(span, field, is_open=bool(steps))
        numbers.update(range(first, last + 1, _step(steps[0], field) if steps else 1))
    return tuple(sorted(numbers))


def _span(span: _Word, field: _Field, *, is_open: bool) -> tuple[int, int]:
    """The ends of `*`, `5` or `1-5`; an open one, as in `5/10`, goes on to the field's last."""
    if span.text == "*":
        return field.first, field.last
    start, *ends = span.split("-", 1)
    first = _number(start if start.text else span, field)
    if not ends:
        return first, field.last if is_open else first
    last = _number(ends[0] if ends[0].text else span, field)
    if field.name == "weekday" and last == 0:  # fri-sun
        last = 7
    if last < first:
        raise span.wrong(f"has {field.name} {span.text}", "write the smaller number first")
    return first, last


def _number(word: _Word, field: _Field) -> int:
    if word.text.lower() in field.words:
        return field.words.index(word.text.lower()) + field.first
    if not _NUMBER.fullmatch(word.text):
        # No "?", as Quartz would have it: there, weekday 1 is Sunday.
        raise word.wrong(f"has {field.name} {word.text!r}", field.range_in_words())
    if not field.first <= int(word.text) <= field.last:
        raise word.wrong(f"has {field.name} {word.text}", field.range_in_words())
    return int(word.text)


def _step(word: _Word, field: _Field) -> int:
    if not _NUMBER.fullmatch(word.text) or int(word.text) < 1:
        raise word.wrong(f"has {field.name} step {word.text!r}", "a step is a number from 1")
    return int(word.text)


def _from(first: int, numbers: tuple[int, ...]) -> tuple[int, ...]:
    return numbers[bisect_left(numbers, first) :] if first else numbers
