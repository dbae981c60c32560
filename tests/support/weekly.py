"""An entry of the schedule that is due once a week, and was an hour ago: no slot comes amid a test,
however long it takes and whatever the time of day is."""

from datetime import timedelta

from jiffy import clock, every
from jobs import numbers

WEEK = timedelta(weeks=1)
LAST_SLOT = clock.now().replace(microsecond=0) - timedelta(hours=1)


def weekly(function, **options):
    return every("7d", function, **{"start": LAST_SLOT - 100 * WEEK} | options)


def add(**changes):
    """The entry of most tests, `jobs.numbers.add`."""
    return weekly(numbers.add, **{"args": [2, 3]} | changes)


def slot(weeks_before=0):
    """Seconds since the epoch: the last slot, or one before that."""
    return (LAST_SLOT - weeks_before * WEEK).timestamp()
