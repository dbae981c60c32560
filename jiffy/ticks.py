"""A tick of an entry: its names, and its line in the history that Redis keeps.

Nothing here speaks to Redis.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from jiffy import clock
from jiffy.errors import InvalidValue

_ID_PREFIX = "entry-"
_LONGEST_NAME = 200
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{_LONGEST_NAME}}}")
_OUTCOMES = {"s": "skipped", "m": "missed"}
# The reason of an entry whose only time was over before the table had it.
TOO_LATE = "it was declared after its time"


class Tick(NamedTuple):
    """One slot of an entry; its job's id, where it has one, and what became of it."""

    slot: datetime
    enqueued_at: datetime | None
    late_ms: int | None  # after the slot, and after what jitter added to that
    job_id: str | None
    outcome: str  # a job's status once it is over, "gone", "open", "skipped" or "missed"
    duration_s: float | None
    reason: str  # why it was skipped or missed, who asked for it, or why it was canceled


def entry_id_of(name: str) -> str:
    """The id of the entry `name`: RQ takes letters, digits, dashes and underscores only."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        must = f"at most {_LONGEST_NAME} letters, digits, dots, dashes and underscores"
        raise InvalidValue("name", name, must)
    return _ID_PREFIX + name.replace(".", "-")


def name_in(entry_id: str) -> str:
    """The name as an id has it, with dashes for dots; it is as good as the name itself."""
    return entry_id.removeprefix(_ID_PREFIX)


def job_id_of(entry_id: str, slot: datetime, *, is_asked_for: bool = False) -> str:
    """The id of the job of a slot: the same, whoever enqueues it."""
    name = name_in(entry_id)
    return f"{name}-now-{slot:%Y%m%dT%H%M%S%f}Z" if is_asked_for else f"{name}-{_second(slot)}"


def line_of(kind: str, slot: datetime, due: datetime, *, late_ms: int = 0, reason: str = "") -> str:
    """A tick as a line of the history: kind|slot+jitter|late ms|outcome|duration ms|reason.

    Kinds: t(ick), n(ow: asked for), s(kipped), m(issed).
    """
    when = _number(slot.timestamp())
    if due > slot:
        when += f"+{_number((due - slot).total_seconds())}"
    return f"{kind}|{when}|{late_ms}|||{reason}"


def tick_of(entry_id: str, line: str) -> Tick:
    """A line of the history, read."""
    kind, when, late, outcome, took_ms, reason = line.split("|", 5)
    slot_s, _, added_s = when.partition("+")
    slot = clock.from_wall(float(slot_s))
    is_made = kind in "tn"
    enqueued_s = float(slot_s) + float(added_s or 0) + int(late) / 1000
    return Tick(
        slot=slot,
        enqueued_at=clock.from_wall(enqueued_s) if is_made else None,
        late_ms=int(late) if is_made else None,
        job_id=job_id_of(entry_id, slot, is_asked_for=kind == "n") if is_made else None,
        outcome=_OUTCOMES.get(kind) or outcome or "open",
        duration_s=int(took_ms) / 1000 if took_ms else None,
        reason=reason,
    )


@lru_cache(maxsize=256)  # thousands of entries may be due at one moment
def _second(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%SZ}"


def _number(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")
