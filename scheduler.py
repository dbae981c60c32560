"""What runs, and when.  Yours: one line per entry.  Start it with `python scheduler.py`."""

from jiffy import cron, every, run_scheduler
from jobs import cleanup, reports

SCHEDULE = [
    every("1d", cleanup.resized, args=["samples", 30], queue="low", name="nightly"),
    cron("0 6 * * *", reports.last_day, args=["samples/last_day.html"], timezone="Europe/Paris"),
]

if __name__ == "__main__":
    run_scheduler(SCHEDULE)
