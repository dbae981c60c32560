"""Real workers, as `python worker.py` starts them, to be sent signals and to be killed."""

import os
import re
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

from jiffy import keys
from tests.jobs import worker as worker_jobs
from tests.support.newcomer import CHECKOUT, PATIENCE_S, read, wait_until
from tests.support.worker_support import registered, said


class Dyno:
    """One `python worker.py` with all that descends from it; what it logs is in a file.

    `home` is where that file is, and its neighbours; `container` what starts it in one.
    """

    def __init__(self, folder, words, environ, home=CHECKOUT, container=()):
        self.mark = f"WORKER_TEST_MARK={uuid.uuid4()}"
        self._log = folder / f"{self.mark[-8:]}.log"
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*container, sys.executable, "worker.py", *words],
                cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"JOBS_MODULES": "tests.jobs.worker"} | os.environ | environ
                | dict([self.mark.split("=")]),
                start_new_session=True,
            )  # fmt: skip

    @property
    def log(self):
        return self._log.read_text()

    def lines(self, event):
        """The lines of the log that tell of this event."""
        return re.findall(rf"^.* {re.escape(event)}\b.*$", self.log, re.MULTILINE)

    def pids(self):
        """All its living processes."""
        return [
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if self.mark.encode() in read(path / "environ")
        ]

    def children(self):
        return [pid for pid in self.pids() if parent_of(pid) == self.process.pid]

    def send(self, number):
        """Send a signal to its first process, the supervisor."""
        self.process.send_signal(number)

    def kill_children(self):
        """Kill them all before their supervisor knows of one: else another would run its job, and
        die of that again."""
        self.send(signal.SIGSTOP)
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        self.send(signal.SIGCONT)

    def send_to_all(self, number):
        """Do as a platform does: every process of the dyno has the signal."""
        for pid in self.pids():
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(pid, number)

    def wait(self):
        """Wait until it has ended by itself; return its exit code."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It goes on.\n{self.log}") from None

    def until_logged(self, event):
        """Wait for a line that tells of this event, which may come after the event; return it."""
        self.until(lambda: self.lines(event))
        return self.lines(event)[0]

    def until(self, fact):
        """Wait for it; show the log if it does not come."""
        try:
            wait_until(fact)
        except AssertionError:
            raise AssertionError(f"It did not come.\n{self.log}") from None

    def end(self):
        """Kill its supervisor; whatever else is left then has failed to die with it."""
        self.process.kill()
        self.process.wait()
        try:
            wait_until(lambda: not self.pids())
        finally:
            for pid in self.pids():
                os.kill(pid, signal.SIGKILL)


def parent_of(pid):
    found = re.search(rb"^PPid:\s*(\d+)", read(f"/proc/{pid}/status"), re.MULTILINE)
    return int(found.group(1)) if found else 0


def until_said(dyno, redis, text):
    """Wait until a job of `dyno` has said this."""
    dyno.until(lambda: text in said(redis))


def until_over(dyno, redis, *ids, queue="default"):
    """Wait until these jobs have finished or failed."""
    dyno.until(
        lambda: (
            set(ids) <= {*registered(redis, "finished", queue), *registered(redis, "failed", queue)}
        )
    )


def let_go_on(redis, name):
    """Let a job that runs `wait_for(name)` go on to its end."""
    redis.rpush(f"test:go:{name}", 1)


def begin(dyno, redis, name, count=1):
    """Wait until a job `wait_for(name)` has begun, `count` times in all."""
    dyno.until(lambda: said(redis).count(f"{name} begun") == count)


def worker_names(redis):
    return sorted(raw.decode().removeprefix(keys.WORKER) for raw in redis.smembers(keys.WORKERS))


assert worker_jobs.LONGEST_WAIT_S > PATIENCE_S  # or a job that is to be ended would end by itself
