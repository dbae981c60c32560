"""The signals that a supervisor hears, and how it waits without missing one."""

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from jiffy import clock
from jiffy.worker.process import LOOK

# A terminal, honcho and a shell may all pass on the same Ctrl-C.
_SAME_S = 0.5


class Signals:
    """While it is open: the first SIGTERM or SIGINT calls `stop`, a second SIGINT `stop_now`.

    More SIGTERMs change nothing: a platform sends one to each process, and perhaps again.
    """

    def __init__(self, stop: Callable[[str], None], stop_now: Callable[[str], None]) -> None:
        self._stop, self._stop_now = stop, stop_now
        self._interrupted = 0.0
        self._heard: list[Callable[[], None]] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop}
        for number in (signal.SIGCHLD, LOOK):  # to be woken by one, to survive the other
            handlers[number] = lambda *_: None  # type: ignore[index]
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self, longest_s: float) -> None:
        """Wait for a signal, and do what it asks for."""
        if select.select([self._read], [], [], longest_s)[0]:
            with suppress(BlockingIOError):
                os.read(self._read, 4096)
        while self._heard:
            self._heard.pop(0)()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        # Only noted here: a handler runs in the middle of whatever the process is doing.
        name = signal.Signals(number).name
        if number == signal.SIGTERM or not self._interrupted:
            self._heard.append(lambda: self._stop(name))
        elif clock.monotonic() - self._interrupted > _SAME_S:
            self._heard.append(lambda: self._stop_now(name))
        if number == signal.SIGINT:
            self._interrupted = self._interrupted or clock.monotonic()
