"""The zone that the machine itself is set to changes no entry's times."""

import os
import time
from datetime import UTC, datetime

import pytest

from jiffy import at, cron, every, simulate
from jobs import numbers

# Both nights of the year in which clocks are changed, for most of these places.
SPANS = [
    (datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 4, 6, tzinfo=UTC)),
    (datetime(2026, 9, 25, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)),
]
MACHINES = ["America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]


def times():
    """When a table with entries in many zones is due, as text."""
    zones = ["UTC", "Europe/Paris", *MACHINES]
    table = [every("5h", numbers.add, args=[2, 3])]
    table.append(at(datetime(2026, 4, 1, 12, tzinfo=UTC), numbers.add, args=[1, 1], name="at"))
    for number, zone in enumerate(zones):
        table.append(
            cron("30 0-3 * * *", numbers.add, args=[2, 3], timezone=zone, name=f"n{number}")
        )
    ticks = [tick for span in SPANS for tick in simulate(table, *span)]
    return "".join(f"{tick.name} {tick.due.isoformat()}\n" for tick in ticks)


@pytest.fixture
def zone_of_machine(environ):
    def change(name):
        environ(TZ=name)
        time.tzset()

    before = os.environ.get("TZ")
    yield change
    change(before)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_machines_own_zone_does_not_matter(machine, zone_of_machine):
    here = times()
    zone_of_machine(machine)

    assert times() == here
    assert len(here.splitlines()) > 1000
