"""What runs, and when.  Yours: one line per entry.  Start it with `python scheduler.py`."""

from jiffy import cron, every, run_scheduler
from jobs import numbers

SCHEDULE = [
    every("10m", numbers.add, args=[2, 3], queue="low"),
    cron("0 6 * * mon", numbers.add, args=[2, 3], name="weekly", timezone="Europe/Paris"),
]

if __name__ == "__main__":
    run_scheduler(SCHEDULE)
