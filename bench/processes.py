"""The processes of one contestant's workers: found, counted, frozen, stopped.

They are known by a mark in their environment, so that none is missed that a library has detached,
and none is touched that is not ours.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from jiffy.clock import monotonic

MARK = "BENCH_MARK"
STOP_S = 8
# A page's worth at most: what the environment of a process that we started always holds.
_GONE = (ProcessLookupError, FileNotFoundError, PermissionError)


@dataclass(frozen=True)
class Crowd:
    """All processes that carry one mark."""

    mark: str

    def pids(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in _all_pids() if wanted in _environment(pid)]

    def pss_bytes(self) -> int:
        """Their memory, what is shared counted once."""
        return sum(_pss_kb(pid) for pid in self.pids()) * 1024

    def cpu_s(self) -> float:
        """The processor time of those that live."""
        return sum(_cpu_ns(pid) for pid in self.pids()) / 1e9

    def signal(self, number: int) -> None:
        """Send a signal to each, and to those that were started meanwhile."""
        known: set[int] = set()
        while fresh := set(self.pids()) - known:
            for pid in fresh:
                with suppress(*_GONE):
                    os.kill(pid, number)
            known |= fresh

    def stop(self, first: list[int]) -> None:
        """Ask the processes `first` to end, and kill whatever is left some seconds later."""
        self.signal(signal.SIGCONT)
        for pid in first:
            with suppress(*_GONE):
                os.kill(pid, signal.SIGTERM)
        deadline = monotonic() + STOP_S
        while self.pids() and monotonic() < deadline:
            Event().wait(0.05)
        self.signal(signal.SIGKILL)


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _environment(pid: int) -> list[bytes]:
    try:
        if _stat(pid)[0] == "Z":
            return []
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except _GONE:
        return []


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _cpu_ns(pid: int) -> int:
    """To the nanosecond: the ticks of /proc/PID/stat are samples, unfair to who wakes at one."""
    try:
        threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)
    except _GONE:
        return 0


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except _GONE:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
