"""The workers under test, as a platform runs them: dynos that are started again when they end."""

import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from bench.chaos.ledger import QUEUE

ROOT = Path(__file__).parents[2]
# An empty one first, as in most programs: a worker of RQ's takes jobs in another way then.
QUEUES = ("urgent", QUEUE)
CHILDREN = 2
DYNOS = 2
# In the environment of every process of a dyno, so that no orphan is overlooked.
MARK = "CHAOS_DYNO"
LOOK_EVERY_S = 0.1


def jiffys_command(_: str) -> list[list[str]]:
    return [[sys.executable, "worker.py", "-n", str(CHILDREN), *QUEUES]]


def rqs_command(where: str) -> list[list[str]]:
    """As many workers as ours has children: RQ's own pool would read pickle."""
    rq = str(Path(sys.executable).with_name("rq"))
    return [[rq, "worker", "-S", "json", *where.split(), *QUEUES]] * CHILDREN


COMMANDS: Mapping[str, Callable[[str], list[list[str]]]] = {
    "jiffy": jiffys_command,
    "rq": rqs_command,
}


class Dyno:
    """One container: its first processes, and all that descend from them."""

    def __init__(self, commands: list[list[str]], environment: dict[str, str], log: IO[str]):
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        self._environment = environment | dict([self._mark.split("=")])
        self._log = log
        self._commands = commands
        self.roots = [self._spawn(command) for command in commands]

    def revive(self) -> None:
        """Start again what has ended, as a platform does."""
        for number, root in enumerate(self.roots):
            if root.poll() is not None:
                self.roots[number] = self._spawn(self._commands[number])

    def pids(self) -> list[int]:
        """Every living process of this dyno."""
        return [pid for pid in _all_pids() if self._mark in _environment_of(pid)]

    def children(self) -> list[int]:
        roots = {root.pid for root in self.roots}
        return [pid for pid in self.pids() if pid not in roots]

    def signal_all(self, number: signal.Signals) -> None:
        for pid in self.pids():
            kill(pid, number)
        if number == signal.SIGKILL:
            for root in self.roots:
                root.wait()

    def _spawn(self, command: list[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command, cwd=ROOT, env=self._environment, text=True, stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip


class Fleet:
    """The dynos, and the platform that watches over them."""

    def __init__(self, commands: list[list[str]], environment: dict[str, str], log: IO[str]):
        self._make: Callable[[], Dyno] = lambda: Dyno(commands, environment, log)
        self._dynos = [self._make() for _ in range(DYNOS)]
        self._leaving: list[Dyno] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._platform = threading.Thread(target=self._watch)
        self._platform.start()

    def kill_a_child(self, rng: random.Random) -> None:
        children = [pid for dyno in self._dynos for pid in dyno.children()]
        if children:
            kill(rng.choice(children), signal.SIGKILL)

    def kill_a_root(self, rng: random.Random) -> None:
        kill(rng.choice([root.pid for dyno in self._dynos for root in dyno.roots]), signal.SIGKILL)

    def kill_all(self) -> None:
        with self._lock:  # so that nothing is started half-way through
            for dyno in self._dynos:
                dyno.signal_all(signal.SIGKILL)

    def deploy(self, grace_s: float) -> None:
        """New dynos start; the old ones have SIGTERM, in every process, and SIGKILL after it."""
        with self._lock:
            self._leaving, self._dynos = self._dynos, [self._make() for _ in self._dynos]
        for dyno in self._leaving:
            dyno.signal_all(signal.SIGTERM)
        self._over.wait(grace_s)
        for dyno in self._leaving:
            dyno.signal_all(signal.SIGKILL)

    def freeze(self, for_s: float) -> None:
        """Halt one dyno, as a machine does that is moved elsewhere."""
        self._dynos[0].signal_all(signal.SIGSTOP)
        self._over.wait(for_s)
        self._dynos[0].signal_all(signal.SIGCONT)

    def close(self) -> None:
        self._over.set()
        self._platform.join()
        for dyno in [*self._dynos, *self._leaving]:
            dyno.signal_all(signal.SIGKILL)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            with self._lock:
                for dyno in self._dynos:
                    dyno.revive()


def kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment_of(pid: int) -> list[str]:
    """The environment that a process was started with; empty for those that are gone."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").split("\0")
