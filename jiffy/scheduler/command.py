"""The command behind `python scheduler.py`: check the table, then enqueue what comes due."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from jiffy import clock, connection, log
from jiffy.program import USAGE_EXIT_CODE, in_one_line
from jiffy.queues import Enqueue, enqueue
from jiffy.scheduler import loop, table
from jiffy.scheduler.entry import Entry, Line, times_after
from jiffy.scheduler.schedule import Scheduler
from jiffy.settings import settings

_TIMES_SHOWN = 5
_PATIENCE_S = 0.5


def run_scheduler(
    schedule: Sequence[Line], argv: Sequence[str] | None = None, *, enqueue: Enqueue = enqueue
) -> None:
    """Do what `schedule` says until told to stop; `enqueue` knows the functions' usual options.

    Wrong entries end it before it starts, with exit code 2 and a line for each; `--check` does too,
    with the next times of each entry.
    """
    with in_one_line():
        asked = _parser().parse_args(argv)
        settings()
        entries = _right(schedule, enqueue)
        if asked.check:
            sys.stdout.write(describe(entries))
        else:
            _run(entries)


def describe(entries: Sequence[Entry]) -> str:
    """The table in words, with the next times of each entry on the clock of its own zone."""
    now, lines = clock.now(), [f"{len(entries)} entries, nothing wrong"]
    for number, entry in enumerate(entries, start=1):
        lines += ["", f"{number}. {entry.name}: {entry.in_words()}"]
        for time in islice(times_after(entry, now), _TIMES_SHOWN):
            lines.append(f"   {time.astimezone(entry.timing.zone):%a %Y-%m-%d %H:%M:%S %Z}")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python scheduler.py", description="Enqueue jobs at their times."
    )
    parser.add_argument(
        "--check", action="store_true", help="show the table and its next times, and exit"
    )
    return parser


def _right(schedule: Sequence[Line], enqueue: Enqueue) -> list[Entry]:
    entries, wrong = table.read(schedule, enqueue)
    if wrong:
        sys.stderr.writelines(f"{' '.join(str(error).split())}\n" for error in wrong)
        sys.exit(USAGE_EXIT_CODE)
    return entries


def _run(entries: Sequence[Entry]) -> None:
    log.setup(settings().log_level)
    redis = connection.connect("scheduler")
    redis.ping()
    scheduler = Scheduler(connection=redis)
    where = connection.describe(settings())
    log.event("scheduler.started", redis=where, entries=len(entries), pid=os.getpid())
    with _told_by_signals() as stop:
        table.apply(scheduler, entries, scheduler.look().now)
        loop.run(scheduler, entries, stop)


@contextmanager
def _told_by_signals() -> Iterator[loop.Stop]:
    """Give the event that SIGTERM and SIGINT set; a Redis that does not answer is not waited for.

    Whatever is under way then is broken off: each step is one script, so any moment will do.
    """
    stop = loop.Stop()

    def told(*_: object) -> None:
        stop.set()
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)

    signal.signal(signal.SIGALRM, lambda *_: sys.exit())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        log.event("scheduler.stopped")
