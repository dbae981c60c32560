"""When an entry is due: on a fixed grid, by a cron expression on some place's clock, or once.

All are values: the next time depends on the moment that is asked about and on nothing else, so
every scheduler finds the same times, at every start.  Slots lie on whole seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import takewhile
from typing import ClassVar
from zoneinfo import ZoneInfo

from jiffy import clock
from jiffy.errors import InvalidValue
from jiffy.scheduler import zones
from jiffy.scheduler.expression import Expression

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_SECOND = timedelta(seconds=1)
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"  # of a moment in a timing's text
_FAR_AWAY = datetime.max.replace(tzinfo=UTC)
_MOST_S = 100 * 366 * 86400  # an interval of more is a slip, and soon the end of the calendar


class _Times:
    """What all timings have in common."""

    @property
    def text(self) -> str:
        """As it is written down; `decode` reads it."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """Another one where the times are others; spelled in another way they are the same."""
        return self.text

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the slots after `moment`, in UTC and in order; most timings have no end."""
        raise NotImplementedError

    def next_after(self, moment: datetime) -> datetime | None:
        """The first slot after `moment`; None if there is none any more."""
        return next(self.times_after(moment), None)

    def has(self, moment: datetime) -> bool:
        """Is this one of the slots?"""
        return self.next_after(moment - timedelta.resolution) == moment


@dataclass(frozen=True)
class Every(_Times):
    """Every so many seconds, counted from `anchor`: "10m" is due at :00, :10, :20 …"""

    interval_s: int
    anchor: datetime = EPOCH
    zone: ClassVar[tzinfo] = UTC

    @classmethod
    def read(cls, interval: clock.Duration) -> "Every":
        """Raises InvalidValue for what is no duration, or not whole seconds."""
        interval_s = clock.seconds(interval, "every")
        if not 1 <= interval_s <= _MOST_S or interval_s != int(interval_s):
            raise InvalidValue("every", interval, "whole seconds, from one to a hundred years")
        return cls(int(interval_s))

    @property
    def text(self) -> str:
        return f"every {self.interval_s}"

    def meta(self) -> dict[str, object]:
        """What rq-scheduler keeps in a job's meta to know its next time."""
        return {"interval": self.interval_s}

    def in_words(self) -> str:
        return f"every {clock.in_words(self.interval_s)}"

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        step = timedelta(seconds=self.interval_s)
        found = self.anchor + ((moment - self.anchor) // step + 1) * step
        while True:
            yield found
            found += step


@dataclass(frozen=True)
class Cron(_Times):
    """Whenever the clock in `zone` shows a time that the expression names, each of them once.

    In the night when clocks go forward, a time that is skipped is due at the moment of the change;
    when they go back, a time that is shown twice is due the first time only.
    """

    expression: Expression
    zone: ZoneInfo

    @classmethod
    def read(cls, expression: str, timezone: str) -> "Cron":
        """Raises InvalidCron, or InvalidValue for an unknown time zone."""
        if not isinstance(expression, str):
            raise InvalidValue("cron", expression, "a text such as '0 6 * * mon'")
        return cls(Expression.read(expression), zones.named(timezone))

    @property
    def text(self) -> str:
        return f"cron {self.zone.key} {self.expression.text}"

    @property
    def identity(self) -> str:
        return f"cron {self.zone.key} {self.expression.identity}"

    def meta(self) -> dict[str, object]:
        return {"cron_string": self.expression.text}

    def in_words(self) -> str:
        return f"cron '{self.expression.text}' on the clock of {self.zone.key}"

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        last, walls = moment, self.expression.walls_after(zones.wall(moment, self.zone))
        for found in zones.each_first_shown(walls, self.zone):
            if found > last:
                yield found
                last = found


@dataclass(frozen=True)
class At(_Times):
    """Once, at `moment`; `zone` is only for those who read it."""

    moment: datetime
    zone: ZoneInfo

    @classmethod
    def read(cls, moment: datetime) -> "At":
        """Raises InvalidValue for what is no datetime with a time zone."""
        found = zones.in_utc(moment, "at")
        return cls(found, zones.named(getattr(moment.tzinfo, "key", None) or "UTC"))

    @property
    def text(self) -> str:
        return f"at {self.zone.key} {_text(self.moment)}"

    @property
    def identity(self) -> str:
        return f"at {_text(self.moment)}"

    def meta(self) -> dict[str, object]:
        return {}

    def in_words(self) -> str:
        return f"once, at {_shown(self.moment, self.zone)}"

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        if self.moment > moment:
            yield self.moment


@dataclass(frozen=True)
class Window(_Times):
    """The slots of another timing from `start` to `end`, both included; None leaves a side open."""

    timing: Every | Cron
    start: datetime | None = None
    end: datetime | None = None

    @property
    def zone(self) -> tzinfo:
        return self.timing.zone

    @property
    def text(self) -> str:
        return f"{self._bounds()}{self.timing.text}"

    @property
    def identity(self) -> str:
        return f"{self._bounds()}{self.timing.identity}"

    def meta(self) -> dict[str, object]:
        return self.timing.meta()

    def in_words(self) -> str:
        start = f" from {_shown(self.start, self.zone)}" if self.start else ""
        end = f" until {_shown(self.end, self.zone)}" if self.end else ""
        return f"{self.timing.in_words()}{start}{end}"

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        if self.start is not None:
            moment = max(moment, self.start - _ONE_SECOND)
        end = self.end or _FAR_AWAY
        return takewhile(end.__ge__, self.timing.times_after(moment))

    def _bounds(self) -> str:
        start = f"from {_text(self.start)} " if self.start else ""
        end = f"until {_text(self.end)} " if self.end else ""
        return f"{start}{end}"


Timing = Every | Cron | At | Window


def within(timing: Every | Cron, start: object, end: object) -> Every | Cron | Window:
    """Let `timing` begin and end, where these are not None; an interval is counted from `start`.

    Raises InvalidValue for what is no datetime with a time zone, and if no slot lies between them.
    """
    first = None if start is None else zones.in_utc(start, "start")
    last = None if end is None else zones.in_utc(end, "end")
    if first and isinstance(timing, Every):
        timing = replace(timing, anchor=first)
    window = Window(timing, first, last)
    if first and last and window.next_after(EPOCH) is None:
        raise InvalidValue("end", str(end), f"late enough for a tick from start, {start}, on")
    return window if first or last else timing


@lru_cache(maxsize=1024)
def decode(text: str) -> Timing:
    """Turn a timing's `text` back into the timing."""
    kind, _, rest = text.partition(" ")
    if kind in ("from", "until"):
        return _decode_window(text)
    if kind == "every":
        return Every.read(rest)
    timezone, _, what = rest.partition(" ")
    if kind == "at":
        return At(_of_text(what), zones.named(timezone))
    return Cron.read(what, timezone)


def _decode_window(text: str) -> Timing:
    bounds: dict[str, datetime] = {}
    while text.startswith(("from ", "until ")):
        side, moment, text = text.split(" ", 2)
        bounds[side] = _of_text(moment)
    inner = decode(text)
    assert isinstance(inner, Every | Cron), text
    return within(inner, bounds.get("from"), bounds.get("until"))


def _text(moment: datetime) -> str:
    return f"{moment:{_FORMAT}}"


def _of_text(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)


def _shown(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M{':%S' if moment.second else ''} %Z}"
