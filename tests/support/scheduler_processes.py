"""Real schedulers: forked from the test, so that each begins in a few milliseconds."""

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

from jiffy import log, redis_io
from jiffy.scheduler import loop
from jiffy.worker import process
from tests.support.newcomer import wait_until


class Running:
    """A scheduler in a process of its own, for `entries`; what it logs is in a file."""

    def __init__(self, folder, entries, connect=lambda: redis_io.connect("scheduler")):
        self._log = Path(folder) / f"scheduler-{len(list(Path(folder).iterdir()))}.log"
        self._log.touch()
        self.pid = process.fork(lambda: self._work(entries, connect))
        self.status = None

    def _work(self, entries, connect):
        sys.stdout = self._log.open("w", buffering=1)
        log.setup("INFO")
        return loop.run(connect(), entries)

    @property
    def log(self):
        return self._log.read_text()

    def lines(self, event):
        """The lines of the log that tell of this event."""
        return re.findall(rf"^.* {re.escape(event)}\b.*$", self.log, re.MULTILINE)

    def until_logged(self, event, count=1):
        self.until(lambda: len(self.lines(event)) >= count)

    def until(self, fact):
        """Wait for it; show the log if it does not come."""
        try:
            wait_until(fact)
        except AssertionError:
            raise AssertionError(f"It did not come.\n{self.log}") from None

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """Wait until it has ended by itself; return its exit code."""
        self.until(self._has_ended)
        return os.waitstatus_to_exitcode(self.status)

    def end(self):
        if self.status is None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            self.until(self._has_ended)

    def _has_ended(self):
        if self.status is None:
            self.status = process.ended(self.pid)
        return self.status is not None
