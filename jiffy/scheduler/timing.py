"""When an entry is due: on a fixed grid, or by a cron expression on some place's clock.

Both are values: the next time depends on the moment that is asked about and on nothing else, so
every scheduler finds the same times, at every start.
"""

import difflib
import zoneinfo
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import ClassVar

from jiffy import clock
from jiffy.errors import InvalidValue
from jiffy.scheduler.expression import Expression

EPOCH = datetime(1970, 1, 1, tzinfo=clock.UTC)
_ONE_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Every:
    """Every so many seconds, counted from `anchor`: "10m" is due at :00, :10, :20 …"""

    interval_s: int
    anchor: datetime = EPOCH
    zone: ClassVar[tzinfo] = clock.UTC

    @classmethod
    def read(cls, interval: clock.Duration) -> "Every":
        """Raises InvalidValue for what is no duration, or not whole seconds."""
        interval_s = clock.seconds(interval, "every")
        if interval_s < 1 or interval_s != int(interval_s):
            raise InvalidValue("every", interval, "whole seconds, at least one")
        return cls(int(interval_s))

    @property
    def text(self) -> str:
        return f"every {self.interval_s}"

    def meta(self) -> dict[str, object]:
        """What rq-scheduler keeps in a job's meta to know its next time."""
        return {"interval": self.interval_s}

    def in_words(self) -> str:
        return f"every {clock.in_words(self.interval_s)}"

    def next_after(self, moment: datetime) -> datetime:
        step = timedelta(seconds=self.interval_s)
        return self.anchor + ((moment - self.anchor) // step + 1) * step


@dataclass(frozen=True)
class Cron:
    """Whenever the clock in `zone` shows a time that the expression names, each of them once.

    In the night when clocks go forward, a time that is skipped is due at the moment of the change;
    when they go back, a time that is shown twice is due the first time only.
    """

    expression: Expression
    zone: zoneinfo.ZoneInfo

    @classmethod
    def read(cls, expression: str, timezone: str) -> "Cron":
        """Raises InvalidCron, or InvalidValue for an unknown time zone."""
        if not isinstance(expression, str):
            raise InvalidValue("cron", expression, "a text such as '0 6 * * mon'")
        return cls(Expression.read(expression), _zone(timezone))

    @property
    def text(self) -> str:
        return f"cron {self.zone.key} {self.expression.text}"

    def meta(self) -> dict[str, object]:
        return {"cron_string": self.expression.text}

    def in_words(self) -> str:
        return f"cron '{self.expression.text}' on the clock of {self.zone.key}"

    def next_after(self, moment: datetime) -> datetime:
        for wall in self.expression.walls_after(_wall(moment, self.zone)):
            due = first_shown(wall, self.zone)
            if due > moment:
                return due
        raise AssertionError(f"{self.text} has an end")  # Expression.read has seen to it


Timing = Every | Cron


@lru_cache(maxsize=1024)
def decode(text: str) -> Timing:
    """Turn a timing's `text` back into the timing."""
    kind, _, rest = text.partition(" ")
    if kind == "every":
        return Every.read(rest)
    timezone, _, expression = rest.partition(" ")
    return Cron.read(expression, timezone)


def first_shown(wall: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The first moment, in UTC, when the clock in `zone` shows `wall` or has jumped past it."""
    moment = wall.replace(tzinfo=zone).astimezone(clock.UTC)
    if _wall(moment, zone) == wall:
        return moment
    # Skipped: by the old offset it lies after the change, by the new one before it.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(clock.UTC)
    while moment - before > _ONE_SECOND:
        between = before + (moment - before) // _ONE_SECOND // 2 * _ONE_SECOND
        if _wall(between, zone) >= wall:
            moment = between
        else:
            before = between
    return moment


def _wall(moment: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        must = "the name of a zone, such as 'Europe/Paris'"
        near = _nearest_zone(str(name))
        raise InvalidValue("timezone", name, must + near) from None


def _nearest_zone(name: str) -> str:
    zones = sorted(zoneinfo.available_timezones())
    folded = {zone.casefold(): zone for zone in zones}
    folded |= {zone.rpartition("/")[2].casefold(): zone for zone in zones if "/" in zone} | folded
    near = difflib.get_close_matches(name.casefold().replace(" ", "_"), folded, 1)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""
