"""The command behind `python scheduler.py`: check the table, then enqueue what comes due."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from redis import Redis

from jiffy import clock, connection, log
from jiffy.program import USAGE_EXIT_CODE, in_one_line
from jiffy.scheduler import operate, table, words
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.entry import Entry, Line
from jiffy.scheduler.process import keep_time, until_stopped
from jiffy.scheduler.schedule import Scheduler
from jiffy.settings import settings


def run_scheduler(schedule: Sequence[Line], argv: Sequence[str] | None = None) -> None:
    """Do what `schedule` says until told to stop.

    Wrong entries end it before it starts, with exit code 2 and a line for each.  With `--check` it
    only shows the table, with `--dry-run` only what a start would change; other commands are about
    the entries as they stand in Redis.
    """
    with in_one_line():
        asked = _asked(argv)
        settings()
        if asked.command:
            operate.operate(asked)
            return
        entries = _right(schedule)
        if asked.check:
            sys.stdout.write(words.of_table(entries, clock.now()))
        elif asked.dry_run:
            sys.stdout.write(_changes_in_words(entries))
        else:
            _run(entries)


def companion(schedule: Sequence[Line], redis: Redis) -> Callable[[], int]:
    """Put `schedule` in force; return what a process beside a worker's children has to do.

    That process may die and be started again, perhaps amid a deploy: it does not declare anything.
    Wrong entries end this process with exit code 2.
    """
    entries = _right(schedule)
    return partial(_beside_workers, entries, *_put_in_force(entries, redis))


def _asked(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    asked = parser.parse_args(argv)
    if asked.command and (asked.check or asked.dry_run):
        parser.error("--check and --dry-run are about the whole table: give them without a command")
    return asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python scheduler.py", description="Enqueue jobs at their times."
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--check", action="store_true", help="show the table and its next times, and exit"
    )
    only.add_argument(
        "--dry-run", action="store_true", help="show what a start would change, and exit"
    )
    operate.add_commands(parser)
    return parser


def _right(schedule: Sequence[Line]) -> list[Entry]:
    entries, wrong = table.read(schedule)
    if wrong:
        sys.stderr.writelines(f"{' '.join(str(error).split())}\n" for error in wrong)
        sys.exit(USAGE_EXIT_CODE)
    return entries


def _changes_in_words(entries: Sequence[Entry]) -> str:
    scheduler = Scheduler(connection=connection.connect("scheduler"))
    return words.of_changes(table.difference(scheduler, entries), entries)


def _run(entries: Sequence[Entry]) -> None:
    log.setup(settings().log_level)
    redis = connection.connect("scheduler")
    redis.ping()
    with until_stopped():
        keep_time(redis, entries, *_put_in_force(entries, redis))


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
