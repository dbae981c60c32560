"""The table of `scheduler.py`: checked line by line, then compared with what is in Redis."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from jiffy import log
from jiffy.errors import InvalidEntry, InvalidSchedule, JiffyError
from jiffy.queues import Enqueue, enqueue
from jiffy.scheduler.entry import Entry, Line, check
from jiffy.scheduler.schedule import Scheduler


def read(
    lines: Iterable[object], enqueue: Enqueue = enqueue
) -> tuple[list[Entry], list[InvalidEntry]]:
    """Check every line; return the entries that are right and what is wrong with the others.

    `enqueue` knows the functions' usual options.
    """
    entries: dict[str, tuple[int, Entry]] = {}
    wrong = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = _entry(line, enqueue)
            _refuse_twin(entry, entries)
        except JiffyError as error:
            wrong.append(InvalidEntry(number, str(error)))
        else:
            entries[entry.id] = (number, entry)
    return [entry for _, entry in entries.values()], wrong


def right(lines: Iterable[object], enqueue: Enqueue = enqueue) -> list[Entry]:
    """The entries of a table without mistakes; raises InvalidSchedule with all that there are."""
    entries, wrong = read(lines, enqueue)
    if wrong:
        raise InvalidSchedule(wrong)
    return entries


def apply(scheduler: Scheduler, entries: Sequence[Entry], now: datetime) -> dict[str, int]:
    """Make the schedule in Redis what the table says; return how many are new, changed, same, gone.

    Entries that no table made are left alone.  What changes is logged.
    """
    counts = {"new": 0, "changed": 0, "same": 0, "gone": 0}
    for entry in entries:
        verdict = scheduler.declare(entry, now)
        counts[verdict] += 1
        if verdict != "same":
            log.event(f"entry.{verdict}", entry=entry.name, due=entry.timing.in_words())
    for entry_id in sorted(scheduler.declared() - {entry.id for entry in entries}):
        scheduler.withdraw(entry_id)
        counts["gone"] += 1
        log.event("entry.gone", entry=entry_id, reason="it is not in the table")
    return counts


def restore(scheduler: Scheduler, entries: Sequence[Entry]) -> None:
    """Declare `entries` again where Redis has lost its whole schedule."""
    if not scheduler.declared():
        apply(scheduler, entries, scheduler.look().now)


def _entry(line: object, enqueue: Enqueue) -> Entry:
    if not isinstance(line, Line):
        raise JiffyError(f"{line!r} is no entry; write every(...) or cron(...).")
    return check(line, enqueue)


def _refuse_twin(entry: Entry, others: dict[str, tuple[int, Entry]]) -> None:
    if entry.id in others:
        number, _ = others[entry.id]
        raise JiffyError(
            f"its name {entry.name!r} is that of entry {number}; "
            "give one of them another, such as name='nightly'."
        )
