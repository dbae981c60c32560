"""The nights when clocks change: when each scheduler would enqueue, by its own arithmetic.

Nobody waits: the time is handed to the code of each that says what comes next.  `python -m
bench.schedule.nights` prints the table; with a name, what that one does, as JSON: that is run where
its library is installed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Berlin")
STEP = timedelta(minutes=1)
# The evening before each change, in UTC; there are 18 hours to look at.
EVENINGS = [datetime(2026, 3, 28, 19, tzinfo=UTC)]
EVENINGS += [datetime(2026, 10, 24, 18, tzinfo=UTC)]
MINUTES = 18 * 60
# Minute and hour of a daily entry; the first is skipped in spring, and shown twice in autumn.
ENTRIES = [(30, 2), (0, 6)]
HEADINGS = [
    "scheduler", "02:30, skipped", "06:00, that morning", "02:30, twice", "06:00, that morning",
]  # fmt: skip

# Whether an entry is enqueued at a moment, asked once a minute.
Ask = Callable[[datetime], bool]


def jiffy(minute: int, hour: int, start: datetime) -> Ask:
    from jiffy.cron_times import Cron

    cron = Cron.read(f"{minute} {hour} * * *", ZONE.key)
    return _when_it_has_come(cron.next_after, start)


def rq_scheduler(minute: int, hour: int, start: datetime) -> Ask:
    """On a machine whose zone is `ZONE`: it knows no other."""
    from rq_scheduler import utils

    def following(now: datetime) -> datetime:
        class Moved(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return now.astimezone(ZONE).replace(tzinfo=None, fold=0)

        utils.datetime = Moved
        found: datetime = utils.get_next_scheduled_time(
            f"{minute} {hour} * * *", use_local_timezone=True
        )
        return found

    return _when_it_has_come(following, start)


def rq_cron(minute: int, hour: int, start: datetime) -> Ask:
    """It counts in UTC: what is asked for is the hour before, as it is all winter."""
    from croniter import croniter

    line = f"{minute} {hour - 1} * * *"
    return _when_it_has_come(lambda now: croniter(line, now).get_next(datetime), start)


def celery_beat(minute: int, hour: int, start: datetime) -> Ask:
    from celery import Celery
    from celery.schedules import crontab

    now = last = start
    app = Celery("nights")
    app.conf.timezone = ZONE.key
    schedule = crontab(minute, hour, nowfun=lambda: now.astimezone(ZONE), app=app)

    def ask(moment: datetime) -> bool:
        nonlocal now, last
        now = moment
        is_due: bool = schedule.is_due(last.astimezone(ZONE))[0]
        last = now if is_due else last
        return is_due

    return ask


CONTESTANTS = {
    "jiffy": jiffy,
    "rq-scheduler": rq_scheduler,
    "rq cron": rq_cron,
    "celery beat": celery_beat,
}


def _when_it_has_come(following: Callable[[datetime], datetime | None], start: datetime) -> Ask:
    coming = following(start)

    def ask(now: datetime) -> bool:
        nonlocal coming
        if coming is None or now < coming:
            return False
        coming = following(now)
        return True

    return ask


def cells(name: str) -> Iterator[str]:
    """What `name` does in each night with each entry."""
    for evening in EVENINGS:
        for minute, hour in ENTRIES:
            ask = CONTESTANTS[name](minute, hour, evening)
            moments = [evening + STEP * number for number in range(1, MINUTES)]
            yield _in_words([moment for moment in moments if ask(moment)])


def _in_words(moments: Sequence[datetime]) -> str:
    times = [f"{moment.astimezone(ZONE):%H:%M %Z}" for moment in moments]
    if not times:
        return "never"
    return f"{len(times)} times from {times[0]}" if len(times) > 2 else " and ".join(times)


def table() -> str:
    from bench.environments import ROOT, python_for
    from bench.schedule import report

    rows = []
    for name in CONTESTANTS:
        python = python_for("celery" if name == "celery beat" else "")
        command = [str(python), "-W", "ignore", "-m", "bench.schedule.nights", name]
        environment = os.environ | {"TZ": ZONE.key}
        printed = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, text=True, stdout=subprocess.PIPE
        )
        rows.append([name, *json.loads(printed.stdout)])
    return report.table(HEADINGS, rows, words=len(HEADINGS))


if __name__ == "__main__":
    print(json.dumps(list(cells(sys.argv[1]))) if sys.argv[1:] else table())
