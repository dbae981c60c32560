"""The table of `scheduler.py`: checked line by line, then compared with what is in Redis."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from jiffy import log
from jiffy.errors import InvalidEntry, InvalidSchedule, JiffyError
from jiffy.queues import Enqueue, enqueue
from jiffy.scheduler import declared, timing
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.declared import Declared
from jiffy.scheduler.entry import Entry, Line, check
from jiffy.scheduler.schedule import Scheduler


def read(
    lines: Iterable[object], enqueue: Enqueue = enqueue
) -> tuple[list[Entry], list[InvalidEntry]]:
    """Check every line; return the entries that are right and what is wrong with the others.

    `enqueue` knows the functions' usual options.  Raises InvalidSchedule for what is no table.
    """
    if not isinstance(lines, Iterable) or isinstance(lines, str | Mapping):
        what = f"a list, such as [every(...)]; it is a {type(lines).__name__}"
        raise InvalidSchedule([JiffyError(f"scheduler.py: SCHEDULE must be {what}.")])
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


@dataclass(frozen=True)
class Change:
    """What declaring a table changes of one entry: `what` is a list of (what, before, after)."""

    kind: Literal["new", "changed", "same", "gone"]
    name: str
    what: Sequence[tuple[str, object, object]] = ()


def difference(scheduler: Scheduler, entries: Sequence[Entry]) -> list[Change]:
    """What `apply` would change; nothing is written."""
    there = declared.read(scheduler.connection)
    changes = [_change(entry, there.pop(entry.id, None)) for entry in entries]
    return changes + [Change("gone", told.name) for told in there.values()]


def apply(
    scheduler: Scheduler,
    entries: Sequence[Entry],
    now: datetime,
    alerts: Alerts | None = None,
) -> dict[str, int]:
    """Make the schedule in Redis what the table says; return how many are new, changed, same, gone,
    and how many are over before they began, of which `alerts` tells.

    Entries that no table made are left alone.  What changes is logged.
    """
    redis = scheduler.connection
    counts = {"new": 0, "changed": 0, "same": 0, "gone": 0, "over": 0}
    for entry, verdict in zip(entries, declared.declare(redis, entries, now), strict=True):
        counts[verdict] += 1
        if verdict == "over" and alerts:
            alerts.over(entry, now)
        level = log.WARNING if verdict == "over" else logging.INFO
        if verdict != "same":
            log.event(f"entry.{verdict}", level, entry=entry.name, due=entry.timing.in_words())
    there = declared.read(redis)
    for entry_id in sorted(there.keys() - {entry.id for entry in entries}):
        declared.withdraw(redis, entry_id)
        counts["gone"] += 1
        log.event("entry.gone", entry=there[entry_id].name, reason="it is not in the table")
    return counts


def restore(scheduler: Scheduler, entries: Sequence[Entry], alerts: Alerts | None = None) -> None:
    """Declare `entries` again where Redis has lost its whole schedule."""
    if not declared.read(scheduler.connection):
        apply(scheduler, entries, scheduler.look().now, alerts)


def _entry(line: object, enqueue: Enqueue) -> Entry:
    if isinstance(line, list | tuple):
        raise JiffyError(f"it is a {type(line).__name__}; write *LIST to have its lines here.")
    if not isinstance(line, Line):  # not shown: it may hold a password
        raise JiffyError(
            f"it is a {type(line).__name__}, no entry; write every(...), cron(...) or at(...)."
        )
    return check(line, enqueue)


def _refuse_twin(entry: Entry, others: dict[str, tuple[int, Entry]]) -> None:
    if entry.id in others:
        number, other = others[entry.id]
        alike = f", {other.name!r}: dots and dashes are the same here"
        raise JiffyError(
            f"its name {entry.name!r} is that of entry {number}"
            f"{alike if other.name != entry.name else ''}; "
            "give one of them another, such as name='nightly'."
        )


def _change(entry: Entry, there: Declared | None) -> Change:
    if there is None or not there.definition:
        return Change("new", entry.name)
    was, becomes = json.loads(there.definition), entry.told()
    what: list[tuple[str, Any, Any]] = [
        (name, was.get(name), becomes.get(name))
        for name in sorted(was.keys() | becomes.keys())
        if was.get(name) != becomes.get(name)
    ]
    if there.timing != entry.timing.text:
        what.insert(0, ("times", timing.decode(there.timing).in_words(), entry.timing.in_words()))
    return Change("changed" if what else "same", entry.name, what)
