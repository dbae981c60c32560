"""Time zones: which moment it is when the clock of a place shows some time.

On two days of the year that is not plain.  A time that the clock skips is taken for the moment of
the change; a time that it shows twice, for the first of the two.
"""

import difflib
import zoneinfo
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from jiffy import clock
from jiffy.errors import InvalidValue

_ONE_SECOND = timedelta(seconds=1)
_ONE_HOUR = timedelta(hours=1)
# Files beside the zones': what they say is another thing on each machine.
_OF_THE_MACHINE = ("localtime", "posixrules")


def named(name: str) -> zoneinfo.ZoneInfo:
    """The IANA zone of this name.  Raises InvalidValue, which names the nearest."""
    must = "the name of a zone, such as 'Europe/Paris'"
    if name in _OF_THE_MACHINE:
        raise InvalidValue("timezone", name, f"{must}, not what each machine is set to")
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        near = _nearest(str(name))
        raise InvalidValue("timezone", name, must + near) from None


def in_utc(given: object, name: str) -> datetime:
    """`given` in UTC, to the second; `name` is what an error calls it.

    Raises InvalidValue for what is no datetime with a time zone.
    """
    if not isinstance(given, datetime) or given.utcoffset() is None:
        must = "a datetime with a zone, such as datetime(2026, 12, 24, 9, tzinfo=ZoneInfo('UTC'))"
        raise InvalidValue(name, given, must)
    moment = clock.in_calendar(given.replace(microsecond=0), name).astimezone(UTC)
    if not isinstance(given.tzinfo, zoneinfo.ZoneInfo):
        return moment
    shown = given.replace(tzinfo=None, microsecond=0, fold=0)
    return moment if wall(moment, given.tzinfo) == shown else first_shown(shown, given.tzinfo)


def each_first_shown(walls: Iterable[datetime], zone: zoneinfo.ZoneInfo) -> Iterator[datetime]:
    """The same as `first_shown` of each, several times as fast where many lie in one hour."""
    first = is_plain = None
    for shown in walls:
        if first is None or shown - first >= _ONE_HOUR:
            first, moment, is_plain = shown, first_shown(shown, zone), None
            yield moment
            continue
        if is_plain is None:
            is_plain = _is_plain_hour(first, zone)
        yield moment + (shown - first) if is_plain else first_shown(shown, zone)


def first_shown(shown: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The first moment, in UTC, when the clock in `zone` shows `shown` or has jumped past it."""
    moment = shown.replace(tzinfo=zone).astimezone(UTC)
    if wall(moment, zone) == shown:
        return moment
    # Skipped: by the old offset it lies after the change, by the new one before it.
    before = shown.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while moment - before > _ONE_SECOND:
        between = before + (moment - before) // _ONE_SECOND // 2 * _ONE_SECOND
        if wall(between, zone) > shown:
            moment = between
        else:
            before = between
    return moment


def _is_plain_hour(start: datetime, zone: zoneinfo.ZoneInfo) -> bool:
    """Whether the clock runs on from `start` for an hour without being changed.

    No clock was ever changed twice within one hour, so it does to look at both ends.
    """
    ends = [start.replace(tzinfo=zone), (start + _ONE_HOUR).replace(tzinfo=zone)]
    return len({end.replace(fold=fold).utcoffset() for end in ends for fold in (0, 1)}) == 1


def wall(moment: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """What the clock in `zone` shows at `moment`, as a naive datetime."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _nearest(name: str) -> str:
    known = sorted(zoneinfo.available_timezones() - {*_OF_THE_MACHINE})
    folded = {zone.casefold(): zone for zone in known}
    folded |= {zone.rpartition("/")[2].casefold(): zone for zone in known if "/" in zone} | folded
    near = difflib.get_close_matches(name.casefold().replace(" ", "_"), folded, 1)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""
