"""`rq cron`: the configuration of https://python-rq.org/docs/cron/: seconds, or a cron line.

The grid of a minute or a day needs a cron line: an interval counts from the start of the process.
"""

from typing import Any

from rq import cron

from bench.jobs import noop
from bench.schedule.entries import NUMBERS, UNIT

WHEN: dict[str, Any] = {
    "second": {"interval": 1},
    "minute": {"cron": "* * * * *"},
    "day": {"cron": "0 0 * * *"},
}

for number in NUMBERS:
    cron.register(noop, queue_name="default", name=f"noop-{number}", **WHEN[UNIT])
