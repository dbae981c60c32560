"""Tells those whom entries name (`wanted.py`) of missed ticks, and of jobs that are over."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from urllib.parse import urlsplit, urlunsplit

from jiffy import clock, ticks
from jiffy.errors import DuplicateJob
from jiffy.producer import functions
from jiffy.producer.enqueue import enqueue
from jiffy.scheduler import messenger
from jiffy.scheduler.declared import Missed
from jiffy.scheduler.due import NO_SCHEDULER, Tick
from jiffy.scheduler.entry import Entry
from jiffy.scheduler.messenger import Message, Messenger
from jiffy.scheduler.schedule import Broken, Ended
from jiffy.scheduler.wanted import arguments, shown

_SUCCEEDED, _FAILED = {"finished"}, {"failed", "stopped"}


class Alerts:
    """Tells those whom a table's entries name; none of it is waited for."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.id: entry for entry in entries if entry.wanted}
        self._messenger = Messenger()

    def start(self) -> None:
        """Begin to send; what is told before waits."""
        if self._entries:
            self._messenger.start()

    def missed(self, made: Iterable[Tick], now: datetime) -> None:
        """Tell of ticks that no scheduler made in time: once for all of an entry's."""
        missed = [tick for tick in made if tick.was_missed and tick.outcome != "skipped"]
        told = [tick for tick in missed if tick.entry_id in self._entries]
        for entry_id, some in groupby(told, key=attrgetter("entry_id")):
            first, *others = some
            slots = first.slots + sum(tick.slots for tick in others)
            self._tell(
                self._entries[entry_id], clock.from_wall(first.slot), now, NO_SCHEDULER, slots
            )

    def left_out(self, entry: Entry, missed: Iterable[Missed], now: datetime) -> None:
        """Tell of slots that have no job because of when the table was declared."""
        for slot, reason in missed if entry.id in self._entries else ():
            self._tell(entry, slot, now, reason)

    def broken(self, found: Iterable[Broken]) -> None:
        """Tell of entries that cannot be enqueued; the slot is when that was found."""
        for entry_id, reason, at in found:
            if entry_id in self._entries:
                self._tell(self._entries[entry_id], at, at, f"broken: {reason}")

    def ended(self, ended: Iterable[Ended]) -> None:
        """Ping for each job that has succeeded; where it has failed, at `/fail`."""
        for entry_id, _, tick in sorted(ended, key=attrgetter("tick.slot")):
            entry = self._entries.get(entry_id)
            if entry and entry.wanted.ping and tick.outcome in _SUCCEEDED | _FAILED:
                ping = entry.wanted.ping
                url = ping if tick.outcome in _SUCCEEDED else _with_fail(ping)
                send = partial(messenger.get, url)
                self._messenger.put(Message(entry.name, shown(ping), send))

    def _tell(
        self, entry: Entry, slot: datetime, now: datetime, reason: str, slots: int = 1
    ) -> None:
        on_missed = entry.wanted.on_missed
        if isinstance(on_missed, str):
            name, at, _ = arguments(entry.name, slot, reason)
            late_s = round((now - slot).total_seconds(), 3)
            told = {"entry": name, "slot": at, "slots": slots, "reason": reason, "late_s": late_s}
            send = partial(messenger.post, on_missed, told)
        elif on_missed is not None:
            send = partial(_enqueue, on_missed, entry, slot, reason)
        else:
            return
        self._messenger.put(Message(entry.name, shown(on_missed), send))


def _enqueue(function: functions.Function, entry: Entry, slot: datetime, reason: str) -> None:
    named = enqueue.options(job_id=f"{ticks.job_id_of(entry.id, slot)}-missed")
    # It may be there: of another scheduler, or of a try whose answer was lost.
    with suppress(DuplicateJob):
        named(function, *arguments(entry.name, slot, reason))


def _with_fail(url: str) -> str:
    """As healthchecks.io has it, and others after it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))
