"""Processes as the operating system sees them: a fork that dies with us, and its end."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from jiffy import log, system


def fork(work: Callable[[], int]) -> int:
    """Run `work` in a new process, in a process group of its own; return its pid.

    What `work` returns is the process' exit code.
    It dies with this process, and is deaf to the signals that stop a dyno: its supervisor decides.
    """
    gc.freeze()  # what is shared now stays shared: no collection writes into it
    log.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # whichever of the two is first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        system.die_with(parent)
        for number in (signal.SIGTERM, signal.SIGINT):
            # A handler, not SIG_IGN, which the programs that a job starts would inherit.
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(-1)
        code = work()
    except BaseException:  # noqa: BLE001 - nothing may unwind into the parent's frames
        traceback.print_exc()
    finally:
        log.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill_group(pid: int) -> None:
    """Kill a child and all that its job started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def tell(pid: int, number: int) -> None:
    """Send a signal to a child, which may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def ended(pid: int) -> int | None:
    """The wait status of a child that has ended; None while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if found else None


def cause_of(status: int) -> str:
    """How a process ended, in words: "signal 11 (SIGSEGV)", "exit code 3"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(ValueError):
            return f"signal {number} ({signal.Signals(number).name})"
        return f"signal {number}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def exit_code(status: int) -> int:
    """The exit code in a wait status; negative for a signal."""
    return os.waitstatus_to_exitcode(status)
