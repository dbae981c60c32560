"""When an entry runs: at fixed intervals, by a cron expression on the clock of a zone, or once.

Run times depend on the moment that is asked about and on nothing else, so every scheduler finds
the same ones, at every start.  They are in UTC and lie on whole seconds.
"""

import difflib
import re
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import product, takewhile
from typing import NamedTuple, Self

from jiffy import clock
from jiffy.errors import InvalidCron, InvalidValue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND, _MINUTE, _HOUR, _DAY = (timedelta(seconds=count) for count in (1, 60, 3600, 86400))
_LONGEST_INTERVAL_S = 100 * 366 * 86400  # more is a slip, and soon the end of the calendar
_LONGEST_CHANGE = 3 * _HOUR  # Antarctica/Troll sets its clock back by two
# Every combination of a date and a weekday comes back within 40 years, also across the year 2100.
_HORIZON_DAYS = 40 * 366
# Zone files whose content differs from machine to machine.
_OF_THE_MACHINE = {"localtime", "posixrules"}


@dataclass(frozen=True)
class Timing:
    """Run times between `start` and `end`, both included; None leaves a side open."""

    start: datetime | None = field(default=None, kw_only=True)
    end: datetime | None = field(default=None, kw_only=True)
    zone: tzinfo = field(default=UTC, kw_only=True)  # in which people read the times
    words: str = field(kw_only=True)
    key: str = field(kw_only=True)  # the same for all spellings of the same times

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the run times after `moment`, in order; most timings have no end."""
        slots = self._after(max(moment, self.start - _SECOND) if self.start else moment)
        return takewhile(self.end.__ge__, slots) if self.end else slots

    def next_after(self, moment: datetime) -> datetime | None:
        return next(self.after(moment), None)

    def within(self, start: object, end: object) -> Self:
        """These times from `start` to `end`, where given; an interval then counts from `start`."""
        first = None if start is None else in_utc(start, "start")
        last = None if end is None else in_utc(end, "end")
        found = replace(self, start=first, end=last)
        if first and last and found.next_after(EPOCH) is None:
            raise InvalidValue("end", str(end), f"late enough for a run after start, {start}")
        return found

    @property
    def identity(self) -> str:
        """Another string for other times."""
        return " ".join([*self._bounds("{:%Y-%m-%dT%H:%M:%SZ}".format), self.key])

    def in_words(self) -> str:
        return " ".join([self.words, *self._bounds(lambda moment: _shown(moment, self.zone))])

    def _bounds(self, write: Callable[[datetime], str]) -> list[str]:
        sides = (("from", self.start), ("until", self.end))
        return [f"{side} {write(moment)}" for side, moment in sides if moment]

    def _after(self, moment: datetime) -> Iterator[datetime]:
        raise NotImplementedError


@dataclass(frozen=True)
class Every(Timing):
    """Every so many seconds, counted from `start` or 1970: "10m" runs at :00, :10, :20 …"""

    interval_s: int

    @classmethod
    def read(cls, interval: clock.Duration) -> "Every":
        """Raises InvalidValue for what is no duration, or not whole seconds."""
        interval_s = clock.seconds(interval, "every")
        if not 1 <= interval_s <= _LONGEST_INTERVAL_S or interval_s != int(interval_s):
            raise InvalidValue("every", interval, "whole seconds, from one to a hundred years")
        whole_s = int(interval_s)
        return cls(whole_s, words=f"every {clock.in_words(whole_s)}", key=f"every {whole_s}")

    def _after(self, moment: datetime) -> Iterator[datetime]:
        step, first = timedelta(seconds=self.interval_s), self.start or EPOCH
        found = first + ((moment - first) // step + 1) * step
        while True:
            yield found
            found += step


@dataclass(frozen=True)
class At(Timing):
    """Once, at `moment`."""

    moment: datetime

    @classmethod
    def read(cls, moment: datetime) -> "At":
        """Raises InvalidValue for what is no datetime with a time zone."""
        found, zone = in_utc(moment, "at"), getattr(moment, "tzinfo", None)
        zone = zone_named(getattr(zone, "key", None) or "UTC")
        key = f"at {found:%Y-%m-%dT%H:%M:%SZ}"
        return cls(found, zone=zone, words=f"once, at {_shown(found, zone)}", key=key)

    def _after(self, moment: datetime) -> Iterator[datetime]:
        if self.moment > moment:
            yield self.moment


class _Field(NamedTuple):
    name: str
    first: int
    last: int
    words: tuple[str, ...] = ()

    def must(self) -> str:
        words = f", or {self.words[0]} to {self.words[-1]}" if self.words else ""
        return f"{self.name}s go from {self.first} to {self.last}{words}"


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),  # 0 and 7 are both Sunday
)
_NEEDED = "it needs five: minute hour day month weekday; or six, the second first"
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
class Cron(Timing):
    """Whenever the clock of `zone` shows a time that the expression names.

    `runs_in_real_time`: its minute or hour begins with `*`, so it runs in each pass of an hour that
    the clock shows twice, and in none that it skips.  Any other expression names times of a day,
    each of which comes once: one that is shown twice the first time, one that is skipped at the
    moment of the change.
    """

    expression: str
    fields: tuple[tuple[int, ...], ...]  # of each field, what it allows, sorted
    needs_both: bool  # day and weekday; cron's old rule: if both are given, either is enough
    runs_in_real_time: bool
    zone: zoneinfo.ZoneInfo = field(kw_only=True)

    @classmethod
    def read(cls, expression: str, timezone: str = "UTC") -> "Cron":
        """Read `minute hour day month weekday`, these with a second in front, or @hourly …"""
        if not isinstance(expression, str):
            raise InvalidValue("cron", expression, "a string such as '0 6 * * mon'")
        words, zone = _words(expression), zone_named(timezone)
        fields = [_numbers(expression, *pair) for pair in zip(words, _FIELDS, strict=True)]
        fields[-1] = tuple(sorted({weekday % 7 for weekday in fields[-1]}))
        _, minute, hour, day, _, weekday = (word for word, _ in words)
        needs_both = day[0] == "*" or weekday[0] == "*"
        masks = [f"{sum(1 << number for number in numbers):x}" for numbers in fields]
        text = " ".join(expression.split())
        found = cls(
            text, tuple(fields), needs_both, minute[0] == "*" or hour[0] == "*",
            zone=zone, words=f"cron {text!r} on the clock of {zone.key}",
            key=" ".join(["cron", zone.key, *masks, "and" if needs_both else "or"]),
        )  # fmt: skip
        some_day = date(2000, 1, 1)
        if not any(found._names(some_day + n * _DAY) for n in range(_HORIZON_DAYS)):
            must = "it is never due: no such month has that day"
            raise InvalidCron(expression, f"has day {day}", words[3][1], must)
        return found

    def _after(self, moment: datetime) -> Iterator[datetime]:
        begin = wall(moment, self.zone)
        # Of an hour that is about to be shown again, the times that have passed come again.
        soon = wall(moment + _LONGEST_CHANGE, self.zone)
        begin -= max(begin + _LONGEST_CHANGE - soon, timedelta())
        pairs = product(self.fields[1], self.fields[0])
        times = [timedelta(minutes=minute, seconds=second) for minute, second in pairs]
        last, coming = moment, list[datetime]()
        for hour in self._hours(begin):
            ends = product((hour, hour + _HOUR), (0, 1))
            edges = [end.replace(tzinfo=self.zone, fold=fold) for end, fold in ends]
            if len({edge.utcoffset() for edge in edges}) == 1 and not coming:
                slots: Iterator[datetime] = map(edges[0].astimezone(UTC).__add__, times)
            else:  # what the clock shows a second time may come after times of later hours
                later = min(edge.astimezone(UTC) for edge in edges[2:])
                found = sorted([*coming, *self._moments(hour, times)])
                slots = takewhile(later.__gt__, found)
                coming = [slot for slot in found if slot >= later]
            for slot in slots:
                if slot > last:
                    yield slot
                    last = slot
        yield from coming  # the calendar ends

    def _moments(self, hour: datetime, times: Iterable[timedelta]) -> Iterator[datetime]:
        """When the clock shows these times of an hour, or the moment when it skips them."""
        for shown in (hour + time_ for time_ in times):
            first, second = (
                shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)
            )
            if first <= second:
                yield first
                if self.runs_in_real_time:
                    yield second
            elif not self.runs_in_real_time:
                yield first_shown(shown, self.zone)

    def _hours(self, begin: datetime) -> Iterator[datetime]:
        """The hours of the clock, from that of `begin` on, in which there may be run times."""
        day, first = begin.date(), begin.replace(minute=0, second=0, microsecond=0)
        while day < date.max:
            if self._names(day):
                for hour in self.fields[2]:
                    found = datetime.combine(day, time(hour))
                    if found >= first:
                        yield found
            day += _DAY

    def _names(self, day: date) -> bool:
        _, _, _, days, months, weekdays = self.fields
        if day.month not in months:
            return False
        by_day, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        return (by_day and by_weekday) if self.needs_both else (by_day or by_weekday)


def _words(expression: str) -> list[tuple[str, int]]:
    """The six fields of an expression, each with its position, from 1."""
    words = [(found[0], found.start() + 1) for found in re.finditer(r"\S+", expression)]
    if len(words) == 1 and words[0][0].startswith("@"):
        short, position = words[0][0].lower(), words[0][1]
        if short not in _SHORT:
            near = difflib.get_close_matches(short[:20], _SHORT, 1, 0.0)[0]
            must = f"the nearest short form is {near!r}"
            raise InvalidCron(expression, f"has {short!r}", position, must)
        words = [(word, position) for word in _SHORT[short].split()]
    if len(words) < 5:
        what = f"has {len(words)} fields and lacks the next one"
        raise InvalidCron(expression, what, len(expression) + 1, _NEEDED)
    if len(words) > 6:
        what = f"has {len(words)} fields, one too many"
        raise InvalidCron(expression, what, words[6][1], _NEEDED)
    return words if len(words) == 6 else [("0", 1), *words]


def _numbers(expression: str, word: tuple[str, int], of: _Field) -> tuple[int, ...]:
    """What a field allows: the numbers of its parts, such as `5`, `*/10`, `mon-fri`, `8-18/2`."""
    numbers: set[int] = set()
    rest, position = word
    for part in rest.split(","):
        span, slash, step = part.partition("/")
        first, last = of.first, of.last
        if span != "*":
            low, dash, high = span.partition("-")
            if not low or (dash and not high):
                raise InvalidCron(expression, f"has {of.name} {span!r}", position, of.must())
            first = _number(expression, low, position, of)
            if dash:
                last = _number(expression, high, position + len(low) + 1, of)
                last = 7 if of.name == "weekday" and last == 0 else last  # fri-sun
            elif not slash:
                last = first
            if last < first:
                must = "write the smaller number first"
                raise InvalidCron(expression, f"has {of.name} {span}", position, must)
        if slash and not (_NUMBER.fullmatch(step) and int(step)):
            what, at = f"has {of.name} step {step!r}", position + len(span) + 1
            raise InvalidCron(expression, what, at, "a step is a number from 1")
        numbers.update(range(first, last + 1, int(step or 1)))
        position += len(part) + 1
    return tuple(sorted(numbers))


_NUMBER = re.compile("[0-9]{1,4}")


def _number(expression: str, value: str, at: int, of: _Field) -> int:
    if value.lower() in of.words:
        return of.words.index(value.lower()) + of.first
    is_number = _NUMBER.fullmatch(value)
    if is_number and of.first <= int(value) <= of.last:
        return int(value)
    # No "?" and no "L", as Quartz has them: there, weekday 1 is Sunday.
    what = f"has {of.name} {value if is_number else repr(value)}"
    raise InvalidCron(expression, what, at, of.must())


def zone_named(name: str) -> zoneinfo.ZoneInfo:
    """The IANA zone of this name.  Raises InvalidValue, which names the nearest."""
    must = "the name of a zone, such as 'Europe/Paris'"
    if name in _OF_THE_MACHINE:
        raise InvalidValue("timezone", name, f"{must}, not what each machine is set to")
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        known = sorted(zoneinfo.available_timezones() - _OF_THE_MACHINE)
        spelled = {zone.rpartition("/")[2].casefold(): zone for zone in known if "/" in zone}
        spelled |= {zone.casefold(): zone for zone in known}
        wanted = str(name)[:100].casefold().replace(" ", "_")
        near = difflib.get_close_matches(wanted, spelled, 1)
        hint = f" (did you mean {spelled[near[0]]!r}?)" if near else ""
        raise InvalidValue("timezone", name, must + hint) from None


def in_utc(given: object, name: str) -> datetime:
    """`given` in UTC, to the second; a time that a clock skips is the moment of the change."""
    if not isinstance(given, datetime) or given.utcoffset() is None:
        must = "a datetime with a zone, such as datetime(2026, 12, 24, 9, tzinfo=ZoneInfo('UTC'))"
        raise InvalidValue(name, given, must)
    moment = clock.in_calendar(given.replace(microsecond=0), name).astimezone(UTC)
    if not isinstance(given.tzinfo, zoneinfo.ZoneInfo):
        return moment
    shown = given.replace(tzinfo=None, microsecond=0, fold=0)
    return moment if wall(moment, given.tzinfo) == shown else first_shown(shown, given.tzinfo)


def first_shown(shown: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The first moment, in UTC, when the clock of `zone` shows `shown`, or has skipped it."""
    while True:
        moment = shown.replace(tzinfo=zone).astimezone(UTC)
        if wall(moment, zone) == shown:
            return moment
        shown = shown.replace(second=0) + _MINUTE


def wall(moment: datetime, zone: tzinfo) -> datetime:
    """What the clock of `zone` shows at `moment`, as a naive datetime."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _shown(moment: datetime, zone: tzinfo) -> str:
    second = ":%S" if moment.second else ""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M{second} %Z}"
