"""The table of `scheduler.py`: checked line by line, then compared with what is in Redis."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from jiffy import log
from jiffy.errors import InvalidEntry, InvalidSchedule, JiffyError
from jiffy.scheduler import declared, timing
from jiffy.scheduler.alerts import Alerts
from jiffy.scheduler.declared import Declared, Table, Verdict
from jiffy.scheduler.entry import Entry, Line, check
from jiffy.scheduler.schedule import Broken, Look, Scheduler


def read(
    lines: Iterable[object], where: str = "scheduler.py"
) -> tuple[list[Entry], list[InvalidEntry]]:
    """Check every line; return the entries that are right and what is wrong with the others.

    `where` it stands is for the messages.  Raises InvalidSchedule for what is no table.
    """
    if not isinstance(lines, Iterable) or isinstance(lines, str | Mapping):
        what = f"a list, such as [every(...)]; it is a {type(lines).__name__}"
        raise InvalidSchedule([JiffyError(f"{where}: SCHEDULE must be {what}.")])
    entries: dict[str, tuple[int, Entry]] = {}
    wrong = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = _entry(line)
            _refuse_twin(entry, entries)
        except JiffyError as error:
            wrong.append(InvalidEntry(where, number, str(error)))
        else:
            entries[entry.id] = (number, entry)
    return [entry for _, entry in entries.values()], wrong


def right(lines: Iterable[object]) -> list[Entry]:
    """The entries of a table without mistakes; raises InvalidSchedule with all that there are."""
    entries, wrong = read(lines)
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
    since: datetime | None = None,
) -> dict[str, int]:
    """Make the schedule in Redis what the table says; return how many are new, changed, same, gone,
    and how many are over before they began.  `alerts` tells of slots that this leaves out.

    Entries that no table made are left alone.  What changes is logged.  The table counts as in
    force since `now`, unless it was `since` an earlier moment.
    """
    redis = scheduler.connection
    counts = {"new": 0, "changed": 0, "same": 0, "gone": 0, "over": 0}
    for entry, verdict in zip(entries, declared.declare(redis, entries, now), strict=True):
        counts[verdict.what] += 1
        if verdict.what != "same":
            _note(entry, verdict)
        if alerts:
            alerts.left_out(entry, verdict.missed, now)
    there = declared.read(redis)
    for entry_id in sorted(there.keys() - {entry.id for entry in entries}):
        declared.withdraw(redis, entry_id)
        counts["gone"] += 1
        log.event("entry.gone", entry=there[entry_id].name, reason="it is not in the table")
    declared.put_in_force(redis, Table(declared.digest(entries), since or now))
    return counts


def restore(
    scheduler: Scheduler,
    entries: Sequence[Entry],
    alerts: Alerts | None = None,
    since: datetime | None = None,
) -> None:
    """Declare `entries`, which are in force `since` then, again where Redis has lost them: it is
    empty, or it was set back to an older state.  A table that was put in force later stays."""
    redis = scheduler.connection
    table = declared.in_force(redis)
    if table and since:
        is_lost = table.since < since and table.digest != declared.digest(entries)
    else:
        is_lost = not declared.read(redis)
    if is_lost:
        apply(scheduler, entries, scheduler.look().now, alerts, since)


def mend(
    scheduler: Scheduler, seen: Look, entries: Sequence[Entry], alerts: Alerts | None = None
) -> Look:
    """Declare again those of `entries` that are due and that somebody deleted, and tell of it;
    return what is due then.  Where another table is in force nothing is done."""
    deleted = {found.entry_id for found in seen.due if found.kind in ("gone", "broken")}
    own = [entry for entry in entries if entry.id in deleted] if deleted else []
    table = declared.in_force(scheduler.connection) if own else None
    if table is None or table.digest != declared.digest(entries):
        return seen
    verdicts = declared.declare(scheduler.connection, own, seen.now, only_deleted=True)
    for entry, verdict in zip(own, verdicts, strict=True):
        if verdict.what != "same":
            log.event("entry.mended", log.WARNING, entry=entry.name, reason=_DELETED)
            if alerts:
                alerts.broken([Broken(entry.id, _DELETED, seen.now)])
    return scheduler.look()


_DELETED = "its hash was deleted; it is declared again"


def _note(entry: Entry, verdict: Verdict) -> None:
    """Log it, as a warning if it leaves out a slot."""
    left_out = [f"{slot:%Y-%m-%dT%H:%M:%SZ}" for slot, _ in verdict.missed]
    more = {"missed": ",".join(left_out)} if left_out else {}
    level = log.WARNING if left_out or verdict.what == "over" else logging.INFO
    due = entry.timing.in_words()
    log.event(f"entry.{verdict.what}", level, entry=entry.name, due=due, **more)


def _entry(line: object) -> Entry:
    if isinstance(line, list | tuple):
        raise JiffyError(f"it is a {type(line).__name__}; write *LIST to have its lines here.")
    if not isinstance(line, Line):  # not shown: it may hold a password
        raise JiffyError(
            f"it is a {type(line).__name__}, no entry; write every(...), cron(...) or at(...)."
        )
    return check(line)


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
    try:
        was, times = json.loads(there.definition), timing.decode(there.timing).in_words()
        known = was.keys()
    except (ValueError, TypeError, KeyError, AttributeError, JiffyError):  # somebody's nonsense
        return Change("changed", entry.name, [("entry", "cannot be read", "as in the table")])
    becomes = entry.told()
    what: list[tuple[str, Any, Any]] = [
        (name, was.get(name), becomes.get(name))
        for name in sorted(known | becomes.keys())
        if was.get(name) != becomes.get(name)
    ]
    if there.timing != entry.timing.text:
        what.insert(0, ("times", times, entry.timing.in_words()))
    return Change("changed" if what else "same", entry.name, what)
