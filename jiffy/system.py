"""What operating systems do each in their own way: Linux', and a fallback for the others.

Nothing else asks which system this is.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

IS_LINUX = sys.platform == "linux"
# One that jobs and their libraries leave alone.  macOS has no real-time signals.
SPARE_SIGNAL = signal.SIGRTMIN + 3 if hasattr(signal, "SIGRTMIN") else signal.SIGURG
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LOOK_AGAIN_S = 0.5


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if IS_LINUX else os.cpu_count() or 1


def die_with(parent: int) -> None:
    """Kill this process when its parent ends, or now if it has ended already.

    The fallback is a thread, so it waits while a job's C code holds the interpreter.
    """
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        Thread(target=_kill_when_orphaned, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _kill_when_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        Event().wait(_LOOK_AGAIN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind.  Elsewhere than on Linux: nothing."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The processes below this one, without the program that the fallback asks."""
    children: dict[int, list[int]] = {}
    for child, parent in _from_proc() if IS_LINUX else _from_ps():
        children.setdefault(parent, []).append(child)
    found = children.get(pid, [])
    for child in found:
        found.extend(children.get(child, []))
    return found


def _from_proc() -> Iterator[tuple[int, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])


def _from_ps() -> Iterator[tuple[int, int]]:
    with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE) as ps:
        assert ps.stdout is not None  # a pipe
        for line in ps.stdout.read().splitlines():
            pid, parent = map(int, line.split())
            if pid != ps.pid:
                yield pid, parent


def memory_bytes(pid: int) -> int:
    """The memory that a process has in RAM; 0 where it has ended, or cannot be looked at."""
    with suppress(OSError, IndexError, ValueError):
        if IS_LINUX:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        command = ["ps", "-o", "rss=", "-p", str(pid)]
        return int(subprocess.run(command, capture_output=True, check=False).stdout) * 1024
    return 0
