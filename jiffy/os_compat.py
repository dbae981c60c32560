"""What differs between operating systems: a way for Linux, and a fallback for the others."""

import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK
from threading import Event, Thread
from typing import NamedTuple

IS_LINUX = sys.platform == "linux"
# One that jobs and their libraries do not use.  macOS has no real-time signals.
SPARE_SIGNAL = signal.SIGRTMIN + 3 if hasattr(signal, "SIGRTMIN") else signal.SIGURG
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_M_ARENA_MAX = -8
_LIBC = ctypes.CDLL(None)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LOOK_AGAIN_S = 0.5
_PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


class Opened(NamedTuple):
    """Something that a process has open; `is_inherited`: since before its program began."""

    words: str
    is_inherited: bool = False


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if IS_LINUX else os.cpu_count() or 1


def share_heap() -> None:
    """Let threads allocate from one heap: with one each, as glibc has it, each keeps its peak."""
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def die_with(parent: int) -> None:
    """Kill this process when its parent ends, or now if it has ended already.

    The fallback is a thread: it has to wait while C code of a job holds the interpreter.
    """

    def kill_when_orphaned() -> None:
        while os.getppid() == parent:
            Event().wait(_LOOK_AGAIN_S)
        os.kill(os.getpid(), signal.SIGKILL)

    if IS_LINUX:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    else:
        Thread(target=kill_when_orphaned, daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """On Linux, become the parent of the processes that our children leave behind."""
    if IS_LINUX:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The processes below this one, without the `ps` of the fallback."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found = children.get(pid, [])
    for child in found:
        found.extend(children.get(child, []))
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """All of this machine, each with its parent."""
    if IS_LINUX:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
        return
    with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE) as ps:
        assert ps.stdout is not None  # a pipe
        for line in ps.stdout.read().splitlines():
            pid, parent = map(int, line.split())
            if pid != ps.pid:
                yield pid, parent


def memory_bytes(pid: int) -> int:
    """The memory that a process has in RAM; 0 if it has ended or cannot be read."""
    with suppress(OSError, IndexError, ValueError):
        if IS_LINUX:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        command = ["ps", "-o", "rss=", "-p", str(pid)]
        return int(subprocess.run(command, capture_output=True, check=False).stdout) * 1024
    return 0


def peak_bytes() -> int:
    """The most memory that this process had in RAM since this was last asked; 0 if nothing can say.

    That costs 6 µs.
    """
    with suppress(OSError):
        reset = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            os.write(reset, b"5")  # the peak alone (proc(5))
            return peak
        finally:
            os.close(reset)
    return 0


def opened() -> dict[str, Opened]:
    """On Linux, what this process has open to be read, and forks must not share."""
    if not IS_LINUX:
        return {}
    found = threads()
    for fd, words in files().items():
        flags = int(_fdinfo(fd, r"flags:\s*(\d+)")[0], 8)
        # A program inherits only what does not close as it begins.
        if not (flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_APPEND):
            found[f"{fd} {words}"] = Opened(words, not flags & os.O_CLOEXEC)
    return found


def threads() -> dict[str, Opened]:
    """On Linux, the threads of this process but the first, also those unknown to Python."""
    names = {f"{thread.native_id}": f"thread {thread.name!r}" for thread in threading.enumerate()}
    found = {task.name for task in Path("/proc/self/task").glob("*")} - {f"{os.getpid()}"}
    return {f"thread {task}": Opened(names.get(task, "thread of a C library")) for task in found}


def files() -> dict[int, str]:
    """On Linux, the file descriptors that are no devices, folders or standard streams, in words."""
    standard, found = {_target(fd) for fd in (0, 1, 2)}, {}
    for link in Path("/proc/self/fd").iterdir() if IS_LINUX else ():
        with suppress(OSError):  # it is closed by now, as the one that lists them is
            fd = int(link.name)
            target = _target(fd)
            if target not in standard and (words := _words(fd, target)):
                found[fd] = words
    return found


def children() -> list[int]:
    """On Linux, the processes that this one has started; those that have ended are reaped."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # its thread has ended, or something else has reaped one
            found += [
                pid
                for pid in map(int, children.read_text().split())
                if os.waitpid(pid, os.WNOHANG) == (0, 0)
            ]
    return found


def _fdinfo(fd: int, line: str) -> list[str]:
    return re.findall(f"^{line}", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)


def _target(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""


def _words(fd: int, target: str) -> str:
    mode = os.fstat(fd).st_mode
    if S_ISSOCK(mode):
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
            peer = copy.getpeername()
            shown = ":".join(map(str, peer[:2])) if isinstance(peer, tuple) else peer
            return f"socket to {shown}" if shown else "socket"
        return "socket"
    is_plain_device = S_ISCHR(mode) and (target in _PLAIN_DEVICES or os.isatty(fd))
    if is_plain_device or S_ISDIR(mode):
        return ""
    if target == "anon_inode:[eventpoll]":
        return "event loop"
    is_sqlite = target.endswith(("-wal", "-shm"))
    with suppress(OSError):  # it is only written to
        is_sqlite |= S_ISREG(mode) and os.pread(fd, 16, 0) == b"SQLite format 3\0"
    if is_sqlite:
        return f"locked {target}" if _fdinfo(fd, r"lock:.*\bWRITE\b") else f"database {target}"
    return "pipe" if S_ISFIFO(mode) else target
