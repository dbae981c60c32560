"""The workers under test, as a platform runs them: dynos that are started again when they end."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
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
# Or what fails as it starts would have the machine to itself.
REVIVE_AFTER_S = 1
# A process that finds no Redis as it starts ends with a line that says so.
STARTS_S = 5
NAMES = 4

JIFFY = [sys.executable, "worker.py", "-n", str(CHILDREN), *QUEUES]
RQ = [str(Path(sys.executable).with_name("rq")), "worker"]
SCHEDULER = [sys.executable, "-m", "bench.chaos.schedule"]
# What runs in each dyno, given its number and how RQ's command finds Redis.
COMMANDS: Mapping[str, Callable[[int, list[str]], list[list[str]]]] = {
    "jiffy": lambda _, __: [JIFFY, SCHEDULER],
    # As many workers as ours has children: RQ's own pool would read pickle.
    "rq": lambda _, where: [[*RQ, "-S", "json", *where, *QUEUES]] * CHILDREN,
    # The last is not like the others: it also enqueues what is due.
    "named": lambda dyno, where: [
        [*RQ, "-w", "jiffy.Worker", "-n", f"chaos-{dyno}", *where, *QUEUES]
        if dyno < NAMES
        else JIFFY
    ],
}


class Dyno:
    """One container: its first processes, and all that descend from them."""

    def __init__(self, commands: list[list[str]], environment: dict[str, str], log: IO[str]):
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        self._environment = environment | dict([self._mark.split("=")])
        self._log = log
        self.endings: list[str] = []  # of first processes that have ended by themselves
        self._commands = commands
        self.started_at = [time.monotonic()] * len(commands)
        self.roots = [self._spawn(command) for command in commands]

    def revive(self) -> None:
        """Start again what has ended, as a platform does."""
        for number, root in enumerate(self.roots):
            is_due = time.monotonic() > self.started_at[number] + REVIVE_AFTER_S
            if is_due and root.poll() is not None:
                ran_s = time.monotonic() - self.started_at[number]
                if root.returncode != -signal.SIGKILL and ran_s > STARTS_S + REVIVE_AFTER_S:
                    self.endings.append(f"ended by itself, with status {root.returncode}")
                self.started_at[number] = time.monotonic()
                self.roots[number] = self._spawn(self._commands[number])

    def pids(self) -> list[int]:
        """Every living process of this dyno."""
        return [pid for pid in _all_pids() if self._mark in _environment_of(pid)]

    def children(self) -> list[int]:
        roots = {root.pid for root in self.roots}
        return [pid for pid in self.pids() if pid not in roots]

    def is_alive(self) -> bool:
        return any(root.poll() is None for root in self.roots)

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

    def __init__(
        self, commands: Sequence[list[list[str]]], environment: dict[str, str], log: IO[str]
    ) -> None:
        """`commands`: those of each dyno."""
        self._make: Callable[[int], Dyno] = lambda number: Dyno(commands[number], environment, log)
        self._dynos = [self._make(number) for number in range(len(commands))]
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

    def reload(self, rng: random.Random) -> None:
        """Have the workers of one dyno take the code as it is now."""
        kill(rng.choice(self._dynos).roots[0].pid, signal.SIGHUP)

    def kill_all(self) -> None:
        with self._lock:  # so that nothing is started half-way through
            for dyno in self._dynos:
                dyno.signal_all(signal.SIGKILL)

    def deploy(self, grace_s: float) -> None:
        """New dynos start; the old ones have SIGTERM, in every process, and SIGKILL after it."""
        with self._lock:
            self._leaving = self._dynos
            self._dynos = [self._make(number) for number in range(len(self._dynos))]
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

    def halt(self, rng: random.Random, for_s: float, others: Sequence[int]) -> None:
        """Halt a few processes for a moment: any of the dynos', or `others`."""
        pids = [*(pid for dyno in self._dynos for pid in dyno.pids()), *others]
        chosen = rng.sample(pids, min(len(pids), rng.randint(1, 3)))
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in chosen:
                kill(pid, number)
            self._over.wait(for_s * (number == signal.SIGSTOP))

    def end(self, dyno: int, number: signal.Signals) -> None:
        """Send all processes of one dyno a signal that ends them."""
        with self._lock:
            self._dynos[dyno].signal_all(number)

    def replace(self, dyno: int, rng: random.Random, halted_s: float, both_s: float) -> bool:
        """Halt one dyno, start another in its place, and let the first go on, process by process.

        Return whether both are still there `both_s` later.  If the second was refused, the first
        stays.
        """
        with self._lock:
            old = self._dynos[dyno]
            old.signal_all(signal.SIGSTOP)
            self._dynos[dyno] = new = self._make(dyno)
        self._over.wait(halted_s)
        goes_on_at = time.monotonic()
        for pid in rng.sample(pids := old.pids(), len(pids)):
            kill(pid, signal.SIGCONT)
            self._over.wait(rng.uniform(0, 1))
        while old.is_alive() and time.monotonic() < goes_on_at + both_s:
            self._over.wait(LOOK_EVERY_S)
        if not old.is_alive():
            return False
        with self._lock:
            are_both = new.is_alive() and new.started_at[0] < goes_on_at
            self._dynos[dyno] = old
            new.signal_all(signal.SIGKILL)
        return are_both

    def is_up(self) -> bool:
        """Whether all first processes have been there for some time."""
        started_by = time.monotonic() - STARTS_S
        return all(
            root.poll() is None and started_at < started_by
            for dyno in self._dynos
            for root, started_at in zip(dyno.roots, dyno.started_at, strict=True)
        )

    def endings(self) -> dict[str, str]:
        """The first processes that have ended though nothing had ended them."""
        return {
            f"dyno {number}": ending
            for number, dyno in enumerate(self._dynos)
            for ending in dyno.endings
        }

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
