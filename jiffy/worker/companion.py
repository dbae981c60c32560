"""A process beside the children that runs no jobs: the scheduler, where one dyno does both."""

from collections.abc import Callable
from signal import SIGTERM

from jiffy import clock, log
from jiffy.worker import process

RESTART_AFTER_S = 1
_GOODBYE_S, _LOOK_S = 1, 0.02


class Companion:
    """Starts when its supervisor does, is started again if it dies, and never outlives it.

    `work` runs in its process, and returns after SIGTERM.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._pid = 0
        self._starts_at = 0.0
        self._leaves = False

    def watch(self) -> None:
        """See to it that it lives; to be called again and again."""
        if self._pid:
            self._note_end()
        if not self._pid and not self._leaves and clock.monotonic() >= self._starts_at:
            self._pid = process.fork(self._work)

    def end_soon(self) -> None:
        """Tell it to end; it is not started again."""
        self._leaves = True
        if self._pid:
            process.tell(self._pid, SIGTERM)

    def end(self) -> None:
        """Give it a moment to say goodbye, then end it for certain."""
        self.end_soon()
        deadline = clock.monotonic() + _GOODBYE_S
        while self._pid and clock.monotonic() < deadline:
            self._note_end()
            clock.pause(_LOOK_S)
        if self._pid:
            process.kill_group(self._pid)

    def _note_end(self) -> None:
        status = process.ended(self._pid)
        if status is None:
            return
        if not self._leaves and status != 0:
            cause = process.cause_of(status)
            log.event("companion.died", log.ERROR, pid=self._pid, cause=cause)
        # After a pause also if it was told to end: a platform tells everybody, us a moment later.
        self._pid, self._starts_at = 0, clock.monotonic() + RESTART_AFTER_S
