"""What is to become of an entry that is due: worked out here from its times; done elsewhere."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Literal, NamedTuple

from jiffy import clock
from jiffy.scheduler import policy, timing
from jiffy.scheduler.policy import Policy
from jiffy.scheduler.timing import Timing
from jiffy.ticks import job_id_of, line_of

# A tick is missed when the next one's time has come, too, or when it is later than this: a restart
# or a leader's death costs less.
MISSED_AFTER_S = 30
# So many slots of one absence are enqueued, or told of in the history, one by one.
MOST_MISSED = 100

NO_SCHEDULER = "no scheduler ran"
_MANY = f"{NO_SCHEDULER}; of those that follow, the last {MOST_MISSED} are told"
_ONE_MS = timedelta(milliseconds=1)


class Found(NamedTuple):
    """An entry as a look at the schedule finds it; `kind`: table, other, gone or broken."""

    entry_id: str
    score: float
    kind: str
    text: bytes  # its timing; the meta of one that another program made; or why it is broken
    policy: bytes = b""


class Tick(NamedTuple):
    """One slot of an entry, and what became of it.

    Of ticks that were missed together there is one of these, for the first; `slots` says how many.
    """

    entry_id: str
    name: str
    queue: str
    slot: float
    job_id: str
    late_ms: int
    line: str = ""  # of the history
    outcome: Literal["enqueued", "skipped", "missed"] = "enqueued"
    reason: str = ""
    slots: int = 1
    was_missed: bool = False  # by MISSED_AFTER_S, whatever was then made of it


@dataclass(frozen=True)
class Plan:
    """What is to become of one entry of the table, as far as that can be known without Redis."""

    found: Found
    next_due: float | None
    policy: Policy
    ticks: Sequence[Tick]  # to be enqueued, unless Redis holds a reason against it
    missed: Sequence[Tick]

    def told(self) -> str:
        """What `entry_ticks.lua` is told of it."""
        coming = "" if self.next_due is None else repr(self.next_due)
        head = [self.found.entry_id, repr(self.found.score), coming, self.policy.repeat or 0]
        lines = [tick.line for tick in self.missed]
        return json.dumps(
            [*head, self.policy.overlap, lines, [(tick.line, tick.job_id) for tick in self.ticks]]
        )

    def outcomes(self, reasons: Sequence[str]) -> list[Tick]:
        """What became of it; `reasons`: for each of its ticks why it was skipped, or "".

        The last of these says why the entry is paused, or "": then nothing was missed.
        """
        *reasons, pause = reasons
        done = [self.missed[0]._replace(slots=len(self.missed))] if self.missed else []
        if pause:
            done = [tick._replace(outcome="skipped", reason=pause) for tick in done]
        for tick, reason in zip(self.ticks, reasons, strict=True):
            done.append(tick._replace(outcome="skipped", reason=reason) if reason else tick)
        return done


def plan(found: Found, now: datetime) -> Plan:
    """The ticks of an entry of the table that are due at `now`, and when it is due next.

    Raises ValueError, TypeError, KeyError or JiffyError for a hash that makes no sense.
    """
    entry = _read(found.entry_id, found.text, found.policy)
    first = entry.slot_at(found.score)
    more, coming = entry.slots_after(first, now)
    next_due = None if coming is None else entry.due(coming).timestamp()
    ticks, missed = _divided(entry, [first, *more], now)
    return Plan(found, next_due, entry.policy, ticks, missed)


def slot_of(found: Found) -> datetime:
    """The slot that this entry of the table waits for.  Raises as `plan` does."""
    return _read(found.entry_id, found.text, found.policy).slot_at(found.score)


@dataclass(frozen=True)
class _Entry:
    id: str
    name: str
    queue: str
    timing: Timing
    policy: Policy

    def due(self, slot: datetime) -> datetime:
        return self.policy.due(self.id, slot)

    def slot_at(self, score: float) -> datetime:
        """The slot that is due at `score`; that moment itself where it was moved by hand."""
        due = clock.from_wall(score)
        if self.policy.jitter_s:
            around = self.timing.times_after(due - timedelta(seconds=self.policy.jitter_s + 1))
            for slot in takewhile(due.__ge__, around):
                if abs(self.due(slot) - due) < _ONE_MS:
                    return slot
        return due

    def slots_after(
        self, first: datetime, now: datetime
    ) -> tuple[Sequence[datetime], datetime | None]:
        """The slots after `first` that are due, too, the last 101 at most; and the one to come."""
        found: list[datetime] = []
        for slot in self.timing.times_after(first):
            if self.due(slot) > now:
                return found, slot
            if len(found) > MOST_MISSED:
                found = self._last_slots(first, now)
                return found, self.timing.next_after(found[-1])
            found.append(slot)
        return found, None

    def _last_slots(self, first: datetime, now: datetime) -> list[datetime]:
        """There are too many to walk through: look at the last hundred seconds, two hundred, …"""
        span = timedelta(seconds=MOST_MISSED)
        while True:
            since = max(first, now - span)
            due = takewhile(lambda slot: self.due(slot) <= now, self.timing.times_after(since))
            last = deque(due, maxlen=MOST_MISSED + 1)
            if len(last) > MOST_MISSED or since == first:
                return list(last)
            span *= 2

    def tick(self, slot: datetime, now: datetime) -> Tick:
        due, job_id = self.due(slot), job_id_of(self.id, slot)
        late_ms = max(0, round((now - due) / _ONE_MS))
        line = line_of("t", slot, due, late_ms=late_ms)
        return Tick(self.id, self.name, self.queue, slot.timestamp(), job_id, late_ms, line)

    def missed(self, slot: datetime, reason: str) -> Tick:
        line = line_of("m", slot, slot, reason=reason)
        at = slot.timestamp()
        return Tick(
            self.id, self.name, self.queue, at, "", 0, line, "missed", reason, was_missed=True
        )


@lru_cache(maxsize=16384)  # of an entry's some 300 bytes, as they seldom change
def _read(entry_id: str, text: bytes, policy_text: bytes) -> _Entry:
    told = json.loads(policy_text)
    due = timing.decode(text.decode())
    return _Entry(entry_id, told["name"], told["queue"], due, policy.of_dict(told))


def _divided(
    entry: _Entry, slots: Sequence[datetime], now: datetime
) -> tuple[Sequence[Tick], Sequence[Tick]]:
    """The ticks to enqueue, and those that are only told of."""
    count = MOST_MISSED if entry.policy.missed == "all" else 1
    *overtaken, last = (entry.tick(slot, now) for slot in slots[-count:])
    last = last._replace(was_missed=last.late_ms > MISSED_AFTER_S * 1000)
    ticks = [*(tick._replace(was_missed=True) for tick in overtaken), last]
    if entry.policy.missed == "skip" and last.was_missed:
        ticks = []
    missed = [entry.missed(slot, NO_SCHEDULER) for slot in slots[: len(slots) - len(ticks)]]
    if len(slots) > MOST_MISSED + 1:
        missed[0] = entry.missed(slots[0], _MANY)
    return ticks, missed
