"""The table, and what a start with it would change, as lines for a person at a terminal."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from jiffy.scheduler.entry import Entry
from jiffy.scheduler.table import Change

_TIMES_SHOWN = 5
_KINDS = ("new", "changed", "gone", "same")
# What the table calls by another name than Redis does.
_NAMES = {"origin": "queue", "retries_left": "retry", "jitter_s": "jitter"}


def of_table(entries: Sequence[Entry], now: datetime) -> str:
    """Each entry, what it runs, and its next times on the clock of its own zone."""
    number_width, name_width = len(str(len(entries))), _widest(entry.name for entry in entries)
    indent = "\n" + " " * (number_width + 2)
    lines = [f"{_counted(entries)}, nothing wrong."]
    for number, entry in enumerate(entries, start=1):
        head = f"\n{number:{number_width}}  {entry.name:{name_width}}  {entry.times_in_words()}"
        called = _in_one_line(f"{entry.job.description}, queue {entry.job.origin}")
        more = filter(None, [called, entry.wanted.in_words(), "  ".join(_next_times(entry, now))])
        lines.append(indent.join([head, *more]))
    return _text(lines)


def of_changes(changes: Sequence[Change], entries: Sequence[Entry]) -> str:
    """What is to become of each entry that is not the same: a line for each detail."""
    counts = Counter[str](change.kind for change in changes)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS)
    lines = [f"{_counted(entries)}: {told}. Nothing was written."]
    in_words = {entry.name: _in_one_line(entry.in_words()) for entry in entries}
    different = [change for change in changes if change.kind != "same"]
    name_width = _widest(change.name for change in different)
    for change in different:
        head = f"{change.kind:7}  {change.name:{name_width}}"
        for detail in _details(change, in_words):
            lines.append(f"{head}  {detail}".rstrip())
            head = " " * len(head)
    return _text(lines)


def _next_times(entry: Entry, now: datetime) -> list[str]:
    zone, most = entry.timing.zone, min(_TIMES_SHOWN, entry.policy.repeat or _TIMES_SHOWN)
    slots = [slot.astimezone(zone) for slot in islice(entry.timing.times_after(now), most)]
    year = " %Y" if any(slot.year != now.astimezone(zone).year for slot in slots) else ""
    second = ":%S" if any(slot.second for slot in slots) else ""
    shown = [f"{slot:%a %d %b{year} %H:%M{second}}" for slot in slots]
    if len(shown) < _TIMES_SHOWN:
        shown.append("then never again" if shown else "never again")
    return shown


def _details(change: Change, in_words: dict[str, str]) -> Iterator[str]:
    if change.kind != "changed":
        yield in_words.get(change.name, "")
    names = {name for name, _, _ in change.what}
    for name, before, after in change.what:
        if name != "call" or "description" not in names:  # the call, as it is shown
            yield f"{_in_words(name)}: {_value(before)} → {_value(after)}"


def _in_words(name: str) -> str:
    return _NAMES.get(name, name.removeprefix("jiffy:").replace("_", " "))


def _value(value: object) -> str:
    if value is None or value in ("", {}, []):
        return "none"
    return _in_one_line(value) if isinstance(value, str) else json.dumps(value)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _counted(entries: Sequence[Entry]) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"


def _widest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
