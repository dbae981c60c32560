"""Processes and signals as the operating system sees them: start one that dies with us, notice its
end, hear what a platform sends.
"""

# The C module: each page that `signal` and its enums touch in a fork is copied.
import _signal  # type: ignore[import-not-found]
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from jiffy import clock, log, os_compat

# The signal that makes a child look at the board.
CHECK_BOARD = os_compat.SPARE_SIGNAL
_FROM_SUPERVISOR = tuple(map(int, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, CHECK_BOARD)))
# The environment variable with what a spawned process is to do.
_ROLE = "JIFFY_PART"  # this name stays: at a reload the code that reads it may be newer
_SAME_SIGNAL_S = 0.5  # a terminal, honcho and a shell may all pass on the same Ctrl-C
# A process that dies without a job's help would do so again at once.
RESTART_AFTER_S = 1


def fork(work: Callable[[], int]) -> int:
    """Run `work` in a copy of this process, in a process group of its own; return its pid.

    What `work` returns is the process' exit code.
    It dies with this process, and is deaf to the signals that stop a dyno: its supervisor decides.
    """
    if not _is_child():  # each job may be a fork of a child: that freezes no garbage
        gc.freeze()  # what is shared now stays shared: no collection writes into it
    log.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # whichever of the two is first
            os.setpgid(pid, pid)
        return pid

    def begin() -> int:
        os.setpgid(0, 0)
        _serve(parent)
        return work()

    return run(begin)


def spawn(*role: object, fds: Sequence[int] = ()) -> int:
    """Run this program from its beginning in a new process, for this `role`; return its pid.

    Of what this process has open it is given `fds` alone.  It lives and dies as a fork does.
    """
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        os.environ | {_ROLE: json.dumps([os.getpid(), *role])},  # noqa: TID251 - for it alone
        # Which makes them inheritable there.
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds],
        setpgroup=0,
        setsigmask=_FROM_SUPERVISOR,  # until it has handlers for them
    )


def role() -> list[Any]:
    """What this process is to do, if `spawn` has started it; else empty.  To be called first."""
    text = os.environ.pop(_ROLE, "[]")  # noqa: TID251 - no setting, and not for what jobs start
    parent, *mine = json.loads(text) or [0]
    if mine:
        _serve(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FROM_SUPERVISOR)
    return mine


def run(work: Callable[[], int]) -> NoReturn:
    """End this process with what `work` returns; nothing unwinds into the frames above."""
    code = 1
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001 - see above
        _write_traceback(error)
    finally:
        leave(code)


def _write_traceback(error: BaseException) -> None:
    sys.stderr.write(log.escaped("".join(traceback.format_exception(error)).rstrip()) + "\n")


def leave(code: int) -> NoReturn:
    """End this process, here and now, with this exit code."""
    try:
        log.flush()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # a job may have closed them
        os._exit(code)


def _serve(parent: int) -> None:
    """Die with the process `parent`, and leave the signals to it."""
    os_compat.die_with(parent)
    for number in _FROM_SUPERVISOR:
        # A handler, not SIG_IGN, which the programs that a job starts would inherit.
        _signal.signal(number, lambda *_: None)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    if _is_child():  # of a child, which has registered the rest
        return
    # Nor must its forks inherit that: multiprocessing ends them by SIGTERM, at once perhaps.
    os.register_at_fork(
        before=_block, after_in_parent=_unblock, after_in_child=_behave_as_elsewhere
    )


_mask = threading.local()


def _is_child() -> bool:
    """Whether this process, or the one that it is a fork of, is a child that has forked."""
    return hasattr(_mask, "before")


def _block() -> None:
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_SUPERVISOR)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


@contextmanager
def deaf() -> Iterator[None]:
    """Hold back the supervisor's signals while a fork sets up handlers of its own; see `hear`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_SUPERVISOR)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear() -> None:
    """Let the supervisor's signals through: this fork has its handlers."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FROM_SUPERVISOR)


def end_as(status: int) -> NoReturn:
    """End this process as another one has ended: the cause is read from that."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def _behave_as_elsewhere() -> None:
    for number in _FROM_SUPERVISOR:
        _signal.signal(number, _signal.SIG_DFL)
    _unblock()


def end_copy(pid: int) -> None:
    """End this process if a job has forked it from `pid`: a copy that comes back in its stead."""
    if os.getpid() == pid:
        return
    code = 1
    try:
        match sys.exception():
            case None | SystemExit(code=None):
                code = 0
            case SystemExit(code=int(given)):  # as anywhere: who has forked it may wait for that
                code = given & 0xFF
            case error:
                _write_traceback(error)
        sys.stdout.flush()
    finally:
        os._exit(code)


def kill_group(pid: int) -> None:
    """Kill a child and all that its job started."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):  # what runs as root (sudo) stays
            kill(pid, signal.SIGKILL)


def send(pid: int, number: int) -> None:
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


def reap_strangers(own: set[int]) -> None:
    """As process 1 of a container: reap what jobs left behind when they died."""
    if os.getpid() != 1:
        return
    with suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid in own:  # its supervisor sees to it, then the next one is shown
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def cause_of(status: int) -> str:
    """How a process ended, in words: "signal 11 (SIGSEGV)", "exit code 3"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(ValueError):
            return f"signal {number} ({signal.Signals(number).name})"
        return f"signal {number}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


class Signals:
    """Hears, from when it is made, what a platform, a terminal or a deploy sends.

    SIGTERM and the first SIGINT ask to end.  More SIGTERMs change nothing: a platform sends one to
    each process, and perhaps again.  With `reloads`, SIGHUP is held back until this is open, and
    asks for a reload unless our terminal was closed.
    """

    RELOAD, SHUT_DOWN_NOW = "reload", "SIGINT, again"

    def __init__(self, *, reloads: bool = False) -> None:
        # To be woken by the third, to survive the fourth.
        self._numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, CHECK_BOARD]
        if reloads and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's
            self._numbers.append(signal.SIGHUP)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        self._had_terminal = _has_terminal()
        self._interrupted = 0.0
        self._heard: list[tuple[int, float]] = []
        self._silence = threading.Lock()  # which each signal ends
        self._silence.acquire()

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        if signal.SIGHUP in self._before:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, longest_s: float) -> Iterator[str]:
        """Wait for a signal; yield RELOAD, SHUT_DOWN_NOW, or, to end, its name."""
        self._silence.acquire(timeout=longest_s)
        while self._heard:
            number, at = self._heard.pop(0)
            if number == signal.SIGHUP:
                is_closed = self._had_terminal and not _has_terminal()
                yield "SIGHUP" if is_closed else self.RELOAD
            elif number == signal.SIGTERM or (number == signal.SIGINT and not self._interrupted):
                yield signal.Signals(number).name
            elif number == signal.SIGINT and at - self._interrupted > _SAME_SIGNAL_S:
                yield self.SHUT_DOWN_NOW
            if number == signal.SIGINT:
                self._interrupted = self._interrupted or at

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Only noted: a handler runs in the middle of whatever the process is doing.
        self._heard.append((number, clock.monotonic()))
        with suppress(RuntimeError):  # another signal has ended it, perhaps in the midst of this
            self._silence.release()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Companion:
    """A process beside the children that runs no jobs: a scheduler, or what watches for new code.

    It starts with its supervisor, is started again if it dies, and never outlives it.  `work` runs
    in it, and returns after SIGTERM.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self.pid = 0
        self._starts_at = 0.0
        self._leaves = False

    def watch(self) -> None:
        """Start it if it is not there; to be called again and again."""
        if self.pid and (status := ended(self.pid)) is not None:
            if status and not self._leaves:
                log.event("companion.died", log.ERROR, pid=self.pid, cause=cause_of(status))
            # After a pause also if it was asked to: a platform signals all, us a moment later.
            self.pid, self._starts_at = 0, clock.monotonic() + RESTART_AFTER_S
        if not self.pid and not self._leaves and clock.monotonic() >= self._starts_at:
            self.pid = fork(self._work)

    def end(self) -> None:
        """Ask it to end; it is not started again."""
        self._leaves = True
        if self.pid:
            send(self.pid, signal.SIGTERM)
