"""Messages to other programs by HTTP, and calls that may take long: in threads of their own.

Who sends never waits.  What cannot be delivered is tried three times, then given up; a message may
be lost when this process ends, and is never worth a late tick.
"""

import json
import threading
from collections.abc import Callable
from queue import Full, Queue
from typing import Any, NamedTuple, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import jiffy
from jiffy import clock, log
from jiffy.errors import JiffyError

MOST_WAITING = 1000
# A receiver that does not answer holds a thread for some 20 s; it must not hold up all others.
_THREADS = 4
_TIMEOUT_S = 5
_PAUSES_S = (1, 4)


class Message(NamedTuple):
    """`send` delivers it, or raises; `to` is who gets it, as it may be shown."""

    entry: str
    to: str
    send: Callable[[], object]


class Messenger:
    """Delivers messages in the background, those of an entry in order.

    A receiver's failures are logged once, until something reaches it.  Nothing is sent before
    `start`, which a process that forks leaves to its child.
    """

    def __init__(self) -> None:
        self._waiting = [Queue[Message](MOST_WAITING // _THREADS) for _ in range(_THREADS)]
        self._failing: set[tuple[str, str]] = set()
        self._is_full = False

    def start(self) -> None:
        for waiting in self._waiting:
            threading.Thread(target=self._go_on, args=[waiting], daemon=True).start()

    def put(self, message: Message) -> None:
        """Have it sent, soon; where too many wait already, it is dropped."""
        waiting = self._waiting[hash(message.entry) % _THREADS]
        try:
            waiting.put_nowait(message)
            self._is_full = False
        except Full:
            if not self._is_full:
                log.event("alert.dropped", log.ERROR, entry=message.entry, waiting=waiting.qsize())
            self._is_full = True

    def _go_on(self, waiting: "Queue[Message]") -> NoReturn:
        while True:
            self._deliver(waiting.get())
            waiting.task_done()

    def _deliver(self, message: Message) -> None:
        for pause_s in (*_PAUSES_S, None):
            try:
                message.send()
                self._failing.discard(message[:2])
                return
            except Exception as error:  # noqa: BLE001 - whatever is wrong, the next one is sent
                reason = _reason(error)
            if pause_s is not None:
                clock.pause(pause_s)
        if message[:2] not in self._failing:
            log.event("alert.failed", log.ERROR, entry=message.entry, to=message.to, reason=reason)
        self._failing.add(message[:2])


def post(url: str, told: dict[str, Any]) -> None:
    """POST `told` as JSON.  Raises OSError unless the answer is a good one."""
    _request(url, json.dumps(told).encode(), {"Content-Type": "application/json"})


def get(url: str) -> None:
    """The same for a GET."""
    _request(url, None, {})


def _request(url: str, body: bytes | None, headers: dict[str, str]) -> None:
    headers |= {"User-Agent": f"jiffy/{jiffy.__version__}"}
    try:
        urlopen(Request(url, body, headers), timeout=_TIMEOUT_S).close()
    except HTTPError as error:
        error.close()
        raise


def _reason(error: Exception) -> str:
    """Why it failed.  Libraries may put an address into their texts, which is as good as a key."""
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, JiffyError):
        return str(error)
    strerror = getattr(error, "strerror", None)
    return strerror.lower() if strerror else type(error).__name__
