"""Whom an entry tells when its ticks are missed, and when their jobs are over.

The table alone knows the addresses: nothing of them is written to Redis or shown whole, since who
knows such an address may use it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from jiffy import clock, functions, ticks
from jiffy.errors import DuplicateJob, InvalidValue, WrongArguments
from jiffy.masking import MASK
from jiffy.queues import Enqueue, enqueue
from jiffy.scheduler import messenger
from jiffy.scheduler.due import MISSED_AFTER_S, NO_SCHEDULER, Tick, moment
from jiffy.scheduler.messenger import Message, Messenger
from jiffy.scheduler.timing import At

if TYPE_CHECKING:
    from jiffy.scheduler.entry import Entry
    from jiffy.scheduler.schedule import Broken, Ended

OnMissed = str | functions.Function
_ADDRESS = "an address, such as https://example.com/hook"
_SUCCEEDED, _FAILED = {"finished"}, {"failed", "stopped"}


@dataclass(frozen=True)
class Wanted:
    """Whom an entry tells: of missed ticks an address or a function, of jobs' ends an address."""

    on_missed: OnMissed | None = field(default=None, repr=False)
    ping: str | None = field(default=None, repr=False)
    enqueue: Enqueue = field(default=enqueue, repr=False)  # knows the function's usual options

    def __bool__(self) -> bool:
        return self.on_missed is not None or self.ping is not None

    def in_words(self) -> str:
        """For a person; "" where nobody is told."""
        words = [f"missed: tells {_shown(self.on_missed)}"] if self.on_missed else []
        words += [f"over: pings {_shown(self.ping)}"] if self.ping else []
        return ", ".join(words)


NOBODY = Wanted()


def read(given: Mapping[str, Any], name: str, enqueue: Enqueue) -> Wanted:
    """What a line of the table wants.  Raises InvalidValue, and what `Enqueue.check` raises."""
    on_missed, ping = given.get("on_missed"), given.get("ping")
    if callable(on_missed):
        _check_function(on_missed, name, enqueue)
    elif on_missed is not None:
        _check_address("on_missed", on_missed, f"a function, or {_ADDRESS}")
    if ping is not None:
        _check_address("ping", ping, _ADDRESS)
    return Wanted(on_missed, ping, enqueue)


class Alerts:
    """Tells those whom a table's entries name; none of it is waited for."""

    def __init__(self, entries: Iterable["Entry"]) -> None:
        self._entries = {entry.id: entry for entry in entries if entry.wanted}
        self._messenger = Messenger()

    def start(self) -> None:
        """Begin to send; what is told before waits."""
        if self._entries:
            self._messenger.start()

    def missed(self, made: Iterable[Tick], now: datetime) -> None:
        """Tell of ticks that no scheduler made in time: once for all of an entry's."""
        late = [tick for tick in made if _is_missed(tick) and tick.entry_id in self._entries]
        for entry_id, some in groupby(late, key=attrgetter("entry_id")):
            first, *others = some
            slots = first.slots + sum(tick.slots for tick in others)
            self._tell(self._entries[entry_id], moment(first.slot), now, NO_SCHEDULER, slots)

    def over(self, entry: "Entry", now: datetime) -> None:
        """Tell of an entry of one time that was declared after it."""
        if isinstance(entry.timing, At) and entry.id in self._entries:
            self._tell(entry, entry.timing.moment, now, ticks.TOO_LATE)

    def broken(self, found: Iterable["Broken"]) -> None:
        """Tell of entries that cannot be enqueued; the slot is when that was found."""
        for entry_id, reason, at in found:
            if entry_id in self._entries:
                self._tell(self._entries[entry_id], at, at, f"broken: {reason}")

    def ended(self, ended: Iterable["Ended"]) -> None:
        """Ping for each job that has succeeded; where it has failed, at `/fail`."""
        for entry_id, _, tick in sorted(ended, key=attrgetter("tick.slot")):
            entry = self._entries.get(entry_id)
            if entry and entry.wanted.ping and tick.outcome in _SUCCEEDED | _FAILED:
                ping = entry.wanted.ping
                url = ping if tick.outcome in _SUCCEEDED else _with_fail(ping)
                send = partial(messenger.get, url)
                self._messenger.put(Message(entry.name, _shown(ping), send))

    def _tell(
        self, entry: "Entry", slot: datetime, now: datetime, reason: str, slots: int = 1
    ) -> None:
        on_missed = entry.wanted.on_missed
        if isinstance(on_missed, str):
            name, at, _ = _arguments(entry.name, slot, reason)
            late_s = round((now - slot).total_seconds(), 3)
            told = {"entry": name, "slot": at, "slots": slots, "reason": reason, "late_s": late_s}
            send = partial(messenger.post, on_missed, told)
        elif on_missed is not None:
            send = partial(_enqueue, on_missed, entry, slot, reason)
        else:
            return
        self._messenger.put(Message(entry.name, _shown(on_missed), send))


def _is_missed(tick: Tick) -> bool:
    is_late = tick.outcome == "enqueued" and tick.late_ms > MISSED_AFTER_S * 1000
    return tick.outcome == "missed" or is_late


def _enqueue(function: functions.Function, entry: "Entry", slot: datetime, reason: str) -> None:
    named = entry.wanted.enqueue.options(job_id=f"{ticks.job_id_of(entry.id, slot)}-missed")
    # It may be there: of another scheduler, or of a try whose answer was lost.
    with suppress(DuplicateJob):
        named(function, *_arguments(entry.name, slot, reason))


def _arguments(name: str, slot: datetime, reason: str) -> Sequence[str]:
    return name, f"{slot.astimezone(clock.UTC):%Y-%m-%dT%H:%M:%SZ}", reason


def _check_function(function: functions.Function, name: str, enqueue: Enqueue) -> None:
    try:
        enqueue.check(function, _arguments(name, clock.now(), NO_SCHEDULER), {})
    except WrongArguments as error:
        told = "the entry's name, the slot and the reason"
        raise WrongArguments(f"on_missed is called with {told}: {error}") from None


def _check_address(name: str, value: object, must: str) -> None:
    if not isinstance(value, str) or not _is_address(value):
        raise InvalidValue(name, MASK if isinstance(value, str) else value, must)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - a ValueError if it is no number
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(" @")
    return is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def _with_fail(url: str) -> str:
    """As healthchecks.io has it, and others after it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))


def _shown(whom: OnMissed) -> str:
    if not isinstance(whom, str):
        return functions.path_of(whom)
    parts = urlsplit(whom)
    return f"{parts.scheme}://{parts.netloc}/{MASK}"
