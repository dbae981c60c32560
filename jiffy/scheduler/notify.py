"""Notifies the receivers of entries: of missed runs, and of jobs that have ended.

Separate threads send, so no run waits for a receiver.  A message is tried three times, then
dropped; messages that wait are lost when this process ends.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import groupby
from queue import Queue
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request

import jiffy
from jiffy import clock, log, outgoing
from jiffy.control import entries
from jiffy.errors import DuplicateJob
from jiffy.producer import functions
from jiffy.producer.enqueue import enqueue
from jiffy.scheduler.entry import Entry, alert_arguments, shown
from jiffy.settings import settings

if TYPE_CHECKING:
    from jiffy.scheduler.state import Made

NO_SCHEDULER = "no scheduler ran"
MOST_WAITING = 250  # of an entry
# A receiver that does not answer holds a thread for some 20 s; then it is another entry's turn.
_THREADS = 4
_TIMEOUT_S = 5
_PAUSES_S = (1, 4)

_Message = tuple[str, Callable[[], object]]  # receiver as it is shown, how to send


class Notifier:
    """Sends in the background from `start` on, the messages of an entry in order.

    The failures of a receiver are logged once, until something reaches it.
    """

    def __init__(self, found: Iterable[Entry]) -> None:
        self._receives = any(entry.on_missed or entry.ping for entry in found)
        self._waiting = dict[str, deque[_Message]]()  # of an entry; the first is being sent
        self._turns = Queue[str]()  # of entries that have any, in order
        self._lock = threading.Lock()
        self._failing: set[tuple[str, str]] = set()
        self._full: set[str] = set()

    def start(self) -> None:
        """Begin to send; a process that forks leaves this to its child."""
        for _ in range(_THREADS if self._receives else 0):
            threading.Thread(target=self._go_on, daemon=True).start()

    def missed(self, made: Iterable["Made"], now: datetime) -> None:
        """Report runs that no scheduler enqueued in time: once for all of an entry's."""
        reported = [one for one in made if one.was_missed and one.outcome != "skipped"]
        for _, group in groupby(reported, key=lambda one: one.entry.id):
            first, *others = group
            slots = first.slots + sum(one.slots for one in others)
            self.report(first.entry, first.slot, now, NO_SCHEDULER, slots)

    def report(
        self, entry: Entry, slot: datetime, now: datetime, reason: str, slots: int = 1
    ) -> None:
        """Report a slot that has no job, or that the entry was found broken at `slot`."""
        receiver, arguments = entry.on_missed, alert_arguments(entry.name, slot, reason)
        if isinstance(receiver, str):
            body = dict(zip(("entry", "slot", "reason"), arguments, strict=True))
            late_s = round((now - slot).total_seconds(), 3)
            send = partial(_request, receiver, body | {"slots": slots, "late_s": late_s})
            self.put(entry.name, shown(receiver), send)
        elif receiver:
            job_id = f"{entries.job_id_of(entry.id, slot)}-missed"
            self.put(entry.name, shown(receiver), partial(_enqueue, receiver, job_id, arguments))

    def ended(self, ended: Iterable[tuple[Entry, entries.Run]]) -> None:
        """Ping for each job that has succeeded; where it has failed, at `/fail`."""
        for entry, run in sorted(ended, key=lambda one: one[1].slot):
            if entry.ping and run.outcome in ("finished", "failed", "stopped"):
                url = urlsplit(entry.ping)
                if run.outcome != "finished":  # as healthchecks.io has it, and others after it
                    url = url._replace(path=f"{url.path.rstrip('/')}/fail")
                self.put(entry.name, shown(entry.ping), partial(_request, urlunsplit(url)))

    def put(self, entry_name: str, receiver: str, send: Callable[[], object]) -> None:
        """Queue a message to be sent; it is dropped if too many of the entry are waiting."""
        with self._lock:
            waiting = self._waiting.setdefault(entry_name, deque())
            if len(waiting) < MOST_WAITING:
                self._full.discard(entry_name)
                waiting.append((receiver, send))
                if len(waiting) == 1:
                    self._turns.put(entry_name)
            elif entry_name not in self._full:
                self._full.add(entry_name)
                log.event("alert.dropped", log.ERROR, entry=entry_name, waiting=len(waiting))

    def _go_on(self) -> NoReturn:
        while True:
            entry_name = self._turns.get()
            receiver, send = self._waiting[entry_name][0]
            for pause_s in (*_PAUSES_S, None):
                try:
                    send()
                    reason = ""
                except Exception as error:  # noqa: BLE001 - one that fails must not stop the others
                    reason = outgoing.reason(error)
                if not reason or pause_s is None:
                    break
                clock.pause(pause_s)
            if reason and (entry_name, receiver) not in self._failing:
                log.event("alert.failed", log.ERROR, entry=entry_name, to=receiver, reason=reason)
            (self._failing.add if reason else self._failing.discard)((entry_name, receiver))
            with self._lock:
                self._waiting[entry_name].popleft()
                if self._waiting[entry_name]:
                    self._turns.put(entry_name)
                else:
                    del self._waiting[entry_name]
            self._turns.task_done()


def _enqueue(function: functions.Function, job_id: str, arguments: Sequence[str]) -> None:
    # It may be there: of another scheduler, or of a try whose answer was lost.
    with suppress(DuplicateJob):
        enqueue.options(job_id=job_id)(function, *arguments)


def _request(url: str, body: object = None) -> None:
    headers = {"User-Agent": f"jiffy/{jiffy.__version__}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    # The schedule may name a host in a private network; a redirect may not.
    hosts = {urlsplit(url).hostname or "", *settings().webhook_hosts}
    outgoing.send(Request(url, data, headers), _TIMEOUT_S, hosts, by_proxy=True)
