"""What `jiffy scheduler` does: check the schedule, then enqueue what comes due."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from redis import Redis

from jiffy import clock, connection, log
from jiffy.program import USAGE_EXIT_CODE
from jiffy.scheduler import table, words
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.process import keep_time, until_stopped
from jiffy.scheduler.schedule import Scheduler
from jiffy.settings import settings


def checked(schedule: Iterable[object], where: str = "scheduler.py") -> list[Entry]:
    """Its entries; wrong ones end this process with exit code 2 and a line for each."""
    entries, wrong = table.read(schedule, where)
    if wrong:
        sys.stderr.writelines(f"{' '.join(str(error).split())}\n" for error in wrong)
        sys.exit(USAGE_EXIT_CODE)
    return entries


def show(entries: Sequence[Entry]) -> None:
    """Show the entries and their next times."""
    sys.stdout.write(words.of_table(entries, clock.now()))


def show_changes(entries: Sequence[Entry]) -> None:
    """Show what `start` would change; nothing is written."""
    scheduler = Scheduler(connection=connection.connected("scheduler"))
    sys.stdout.write(words.of_changes(table.difference(scheduler, entries), entries))


def start(entries: Sequence[Entry]) -> None:
    """Put the entries in force, and enqueue what comes due until told to stop."""
    log.setup(settings().log_level)
    redis = connection.connected("scheduler")
    with until_stopped():
        keep_time(redis, entries, *_put_in_force(entries, redis))


def companion(entries: Sequence[Entry], redis: Redis) -> Callable[[], int]:
    """Put the entries in force; return what a process beside a worker's children has to do.

    That process may die and be started again, perhaps amid a deploy: it does not declare anything.
    """
    return partial(_beside_workers, entries, *_put_in_force(entries, redis))


def _put_in_force(entries: Sequence[Entry], redis: Redis) -> tuple[Alerts, datetime]:
    """Return what is to be told of it, once this process keeps time; and since when it is so."""
    scheduler, alerts = Scheduler(connection=redis), Alerts(entries)
    now = scheduler.look().now
    table.apply(scheduler, entries, now, alerts)
    return alerts, now


def _beside_workers(entries: Sequence[Entry], alerts: Alerts, since: datetime) -> int:
    with until_stopped():
        keep_time(connection.connect("scheduler"), entries, alerts, since)
    return 0
