"""Ours: `python -m bench.schedule.entries.jiffy`.

Nobody runs the jobs here, so a tick is not to wait for the one before; and each is asked for, also
those of a time when no scheduler or no Redis was there.
"""

from bench.jobs import noop
from bench.schedule.entries import NUMBERS, PERIOD_S
from jiffy import every, run_scheduler

SCHEDULE = [
    every(PERIOD_S, noop, name=f"noop-{number}", overlap="allow", missed="all")
    for number in NUMBERS
]

if __name__ == "__main__":
    run_scheduler(SCHEDULE)
