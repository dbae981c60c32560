"""What a job may change of its process, and how the next job finds it as it was.

Each job has a context of its own.  After it, cheap signs of a change are read.  Only where there is
one, all of `STATE` is restored, and what cannot be is a reason to replace the process, as is what
the job has left running or open.  What the signs miss is found between batches: docs/isolation.md.
"""

# The C modules, where what is around them costs more than a small job.
import _locale
import _signal  # type: ignore[import-not-found]
import _thread
import asyncio
import contextvars
import decimal
import faulthandler
import gc
import locale
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import thread as pools
from contextlib import suppress
from typing import Any, NamedTuple

from jiffy import clock, os_compat
from jiffy.producer import functions
from jiffy.settings import settings

# A job that was quicker has added little memory; to measure that takes a hundredth of this.
WEIGHED_S = 0.001
# Starting a process takes several times as long: a job that was quicker has started none.
_QUICK_S = 0.00005
# More connections to one address than that are no pool of a process that runs one job at a time.
_MOST_CONNECTIONS, _POOLED = 8, ("socket to ", "database ", "/dev/")
# What is about to end (a thread that was not joined) is waited for, before it counts as left.
_LOOKS, _PAUSE_S = 3, 0.01
# The handlers that jobs change; a full look reads the others, too.
_SIGNALS = [*map(int, (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTERM, signal.SIGCHLD,
    os_compat.SPARE_SIGNAL,
))]  # fmt: skip
_VALID = signal.valid_signals()
_ALL_LIMITS = {value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
# Those that are read after each job, where a job may have changed one.
_LIMITS = [
    resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_CPU, resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_STACK,
]  # fmt: skip
# Those of processor time; `alarm` ends the third.
_TIMERS = (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_ENVIRON: Any = os.environ
_ROOT: Any = logging.root
_OURS = logging.getLogger("jiffy")
_WARNINGS: Any = warnings
_EVENTS: Any = asyncio.events
_LOGGING: Any = logging
_HANDLERS: Any = logging._handlerList  # type: ignore[attr-defined]
# By name: they are called after each job.
_dup, _close, _handler_of, _setlocale = os.dup, os.close, _signal.getsignal, _locale.setlocale
_timeout, _depth, _is_gc_on = socket.getdefaulttimeout, sys.getrecursionlimit, gc.isenabled
_trace, _profile = sys.gettrace, sys.getprofile
_LC_CTYPE, _LC_NUMERIC, _LC_TIME = locale.LC_CTYPE, locale.LC_NUMERIC, locale.LC_TIME
# A key that any change of a logger's level, and `logging.disable`, removes from the root's cache.
_CANARY = "jiffy"
_OF_LOG = slice(-5, None)  # the signs that our log has been changed
# Context variables whose values are objects, which jobs would share: how each gets one of its own.
# Sentry's integration forks but one of its two scopes; user and tags are in the other.
_OBJECTS = {"decimal_context": "copy", "isolation_scope": "fork", "current_scope": "fork"}


def fresh(base: contextvars.Context) -> contextvars.Context:
    """A context for one job, as imports have left `base`."""
    context = base.copy()
    for variable, value in base.items():
        method = _OBJECTS.get(variable.name)
        if method and hasattr(value, method):
            context.run(variable.set, getattr(value, method)())
    return context


def event_loop() -> tuple[Any, dict[str, Any]]:
    """The policy and the current loop, for `restore_event_loop`."""
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    return policy, {**vars(policy._local)} if hasattr(policy, "_local") else {}


def restore_event_loop(found: tuple[Any, dict[str, Any]]) -> None:
    policy, current = found
    asyncio.set_event_loop_policy(policy)
    if current or hasattr(policy, "_local"):
        vars(policy._local).clear()
        vars(policy._local).update(current)


class Aspect(NamedTuple):
    """Some of a process' state, and how it is put back; that raises where it is not possible."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]


def _attributes(name: str, owners: Callable[[], Iterable[Any]], *attributes: str) -> Aspect:
    """What stands in attributes of objects; lists are copied, since jobs change them in place."""

    def read() -> dict[Any, list[Any]]:
        return {one: [_own(getattr(one, attribute)) for attribute in attributes]
                for one in owners()}  # fmt: skip

    def restore(found: dict[Any, list[Any]]) -> None:
        for one, values in found.items():
            for attribute, value in zip(attributes, values, strict=True):
                setattr(one, attribute, _own(value))

    return Aspect(name, read, restore)


def _own(value: Any) -> Any:
    return [*value] if isinstance(value, list) else value


def _numbered(
    name: str, numbers: Iterable[int], get: Callable[[int], Any], put: Callable[[int, Any], object]
) -> Aspect:
    """What the system has under each of these numbers."""

    def restore(found: dict[int, Any]) -> None:
        for number, value in found.items():
            if get(number) != value:
                put(number, value)

    return Aspect(name, lambda: {number: get(number) for number in numbers}, restore)


def _fixed(name: str, read: Callable[[], Any]) -> Aspect:
    """What cannot be put back."""

    def refuse(value: object) -> None:
        raise OSError(f"it was {value}, which only another process has")

    return Aspect(name, read, refuse)


def _set_environment(values: Mapping[bytes, bytes]) -> None:
    os.environ = _ENVIRON  # noqa: B003 - a job may have put another object there
    for name in _ENVIRON._data.keys() - values.keys():
        del os.environb[name]
    os.environb.update(values)
    time.tzset()


def _loggers() -> list[Any]:
    known = [*_ROOT.manager.loggerDict.values()]
    return [_ROOT, *(one for one in known if hasattr(one, "level"))]


def _set_warnings(filters: list[Any]) -> None:
    _WARNINGS.filters[:] = filters
    _WARNINGS._filters_mutated()


def _streams() -> list[tuple[Any, bool]]:
    return [(one, getattr(one, "closed", True)) for one in (sys.stdin, sys.stdout, sys.stderr)]


def _set_streams(streams: list[tuple[Any, bool]]) -> None:
    sys.stdin, sys.stdout, sys.stderr = (stream for stream, _ in streams)
    if _streams() != streams:
        raise OSError("closed")


def _file_at(fd: int | str) -> tuple[int, int] | None:
    with suppress(OSError):
        found = os.stat(fd)  # noqa: PTH116 - a descriptor
        return found.st_dev, found.st_ino
    return None


STATE = (
    Aspect("environment",
         lambda: {**vars(_ENVIRON)["_data"]} if os.environ is _ENVIRON else None,
         _set_environment),
    _numbered("timers", _TIMERS, lambda number: any(signal.getitimer(number)),
              lambda number, _: signal.setitimer(number, 0)),  # before their handlers
    # A TypeError for a handler that C code has set.
    _numbered("signal handlers", _VALID, _signal.getsignal, _signal.signal),
    Aspect("socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Aspect("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    _attributes("sys.path, sys.argv", lambda: [sys], "path", "argv"),
    Aspect("sys.std*", _streams, _set_streams),
    Aspect("locale", lambda: _locale.setlocale(locale.LC_ALL, None),
         lambda name: _locale.setlocale(locale.LC_ALL, name)),
    Aspect("warnings", lambda: [*_WARNINGS.filters], _set_warnings),
    Aspect("trace function", sys.gettrace, sys.settrace),
    Aspect("profile function", sys.getprofile, sys.setprofile),
    Aspect("garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    Aspect("digits of numbers", sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    Aspect("gc thresholds", gc.get_threshold, lambda found: gc.set_threshold(*found)),
    Aspect("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    _attributes("exception hooks", lambda: [sys], "excepthook", "unraisablehook"),
    _attributes("threads' exception hook", lambda: [threading], "excepthook"),
    _attributes("tempfile.tempdir", lambda: [tempfile], "tempdir"),
    _fixed("decimal.DefaultContext", lambda: repr(decimal.DefaultContext)),
    Aspect("event loop", event_loop, restore_event_loop),
    _attributes("logging", lambda: [logging], "_logRecordFactory", "_loggerClass"),
    _attributes("logging.disable", lambda: [_ROOT.manager], "disable"),
    _attributes("loggers", _loggers, "level", "disabled", "propagate", "handlers", "filters"),
    _attributes("log handlers", lambda: {found for one in _loggers() for found in one.handlers},
                "level", "formatter", "filters"),
    _numbered("resource limits", _ALL_LIMITS, resource.getrlimit, resource.setrlimit),
    # Which all processes of this worker share.
    _numbered("blocking standard streams", (0, 1, 2),
              lambda fd: bool(_file_at(fd)) and os.get_blocking(fd), os.set_blocking),
    _fixed("working directory", lambda: _file_at(".")),
    _fixed("root folder", lambda: _file_at("/")),
    _fixed("standard streams", lambda: [*map(_file_at, (0, 1, 2))]),
    _fixed("priority", lambda: os.getpriority(os.PRIO_PROCESS, 0)),
    _fixed("user or group", lambda: (os.getuid(), os.geteuid(), os.getgid(), os.getegid())),
    _fixed("process group", lambda: (os.getpgid(0), os.getsid(0))),
)  # fmt: skip


class ProcessState:
    """This process as jobs are to find it: as it is now."""

    def __init__(self) -> None:
        self._folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        self.accept()

    def accept(self) -> None:
        """What is now is how jobs are to find it: an import has changed something."""
        # To read limits costs more than all other signs.  A job that changes one imports this
        # again, unless a module of jobs has it.
        allowed, modules = settings().jobs_modules, [*sys.modules.items()]
        of_jobs = [found for name, found in modules if functions.is_allowed(name, allowed)]
        names = [[*getattr(one, "__dict__", {}).values()] for one in of_jobs]
        if not any(value is resource for values in names for value in values):
            sys.modules.pop("resource", None)
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._values = [aspect.read() for aspect in STATE]
        self._left = _left()
        self._has_children = _has_children()
        _ROOT._cache[_CANARY] = True
        self._keep_signs()

    def restore(self, took_s: float) -> str:
        """Restore what a job that took so long has changed.

        Return why this process is to be replaced; "" if it is not.
        """
        try:
            # Each of these costs as much as to look whether it is needed.
            _signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()  # which may end the process
            _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
            os.umask(self._umask)
            os.fchdir(self._folder)
            if self._is_same(took_s):
                return ""
        except Exception:  # noqa: BLE001 - closed, replaced, or it cannot be compared
            pass
        return self.look(took_s)

    def restore_log(self) -> None:
        """Restore our log alone: this process ends, and has one line to write."""
        with suppress(Exception):  # closed, or replaced
            if self._read_signs()[_OF_LOG] == self._signs[_OF_LOG]:
                return
        self.look()

    def look(self, took_s: float = -1) -> str:
        """Compare all of STATE, also what has no sign, and restore it; returns as `restore`."""
        aspect = STATE[0]
        try:
            for aspect, value in zip(STATE, self._values, strict=True):
                if aspect.read() != value:
                    aspect.restore(value)
            _ROOT.manager._clear_cache()  # loggers remember which levels are on
            _ROOT._cache[_CANARY] = True
        except Exception as error:  # noqa: BLE001 - whatever a job has made of it
            return f"changed: {aspect.name} ({error})"
        try:
            if took_s >= 0 and self._is_same(took_s):
                return ""
            for _ in range(_LOOKS):
                # But for what a pool of connections, or a device, keeps.
                new = [
                    words for words, count in (_left() - self._left).items()
                    if not words.startswith(_POOLED) or count > _MOST_CONNECTIONS
                ]  # fmt: skip
                if not new:
                    self._has_children = _has_children()
                    self._keep_signs()
                    return ""
                clock.pause(_PAUSE_S)
        except OSError as error:  # so many files that not even a list of them can be opened
            new = [error.strerror or f"{error}"]
        return f"left: {', '.join(new)}"

    def _keep_signs(self) -> None:
        self._signs = tuple(
            one.copy() if isinstance(one, list | dict) else one for one in self._read_signs()
        )

    def _is_same(self, took_s: float) -> bool:
        is_quick = 0 <= took_s < _QUICK_S
        return self._read_signs() == self._signs and (
            is_quick or _has_children() == self._has_children
        )

    def _read_signs(self) -> tuple[Any, ...]:
        lowest = _dup(0)  # the lowest that is free: another one if something was left open
        _close(lowest)
        policy = _EVENTS._event_loop_policy
        return (
            lowest, _thread._count(), os.environ is _ENVIRON, _ENVIRON._data,
            [*map(_handler_of, _SIGNALS)],
            "resource" in sys.modules and [*map(resource.getrlimit, _LIMITS)],
            _timeout(), _depth(), sys.path, sys.argv, sys.stdin, sys.stdout, sys.stderr,
            getattr(sys.stdout, "closed", None), getattr(sys.stderr, "closed", None),
            _setlocale(_LC_CTYPE), _setlocale(_LC_NUMERIC), _setlocale(_LC_TIME),
            time.tzname, _WARNINGS.filters, _is_gc_on(),
            policy, policy and vars(getattr(policy, "_local", policy)),
            _trace(), _profile(), _LOGGING._logRecordFactory,
            _ROOT.handlers, _CANARY in _ROOT._cache, _OURS.disabled, _OURS.handlers,
            len(_HANDLERS),
        )  # fmt: skip


class LeftMemory:
    """What jobs leave in the memory of this process."""

    def __init__(self, numbers: Any) -> None:
        self._numbers, self._limit = numbers, (settings().job_memory_mb or 0) << 20
        self._at_first = self.measure()
        os_compat.peak_bytes()  # what imports needed is no job's

    def measure(self) -> int:
        """The bytes that this process has in RAM, which the supervisor finds on the board."""
        used = self._numbers.memory_bytes = os_compat.memory_bytes(os.getpid())
        return used

    def excess(self) -> str:
        """Why jobs have left too much; "" if they have not."""
        left = self.measure() - self._at_first if self._limit else 0
        if left <= self._limit:
            return ""
        return f"{left >> 20} MB of memory left by jobs; JOB_MEMORY_MB is {self._limit >> 20}"


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _left() -> Counter[str]:
    """What runs or is open in this process, but for the pools of libraries."""
    tracker: Any = getattr(
        sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None
    )
    known = (getattr(tracker, "_fd", None), getattr(tracker, "_pid", None))
    found = [words for fd, words in os_compat.files().items() if fd != known[0]]
    found += [f"process {pid}" for pid in os_compat.children() if pid != known[1]]
    mine = [one for one in threading.enumerate() if not isinstance(one, threading._DummyThread)]
    found += [f"thread {one.name!r}" for one in mine if not _is_kept(one)]
    nameless = max(0, _thread._count() - len(mine) + 1)
    return Counter(found) + Counter({"thread of _thread": nameless})


def _is_kept(thread: Any) -> bool:
    """Whether it is a library's, which outlives jobs: Sentry's sender, an executor that is idle."""
    if thread is threading.main_thread():
        return True
    run = getattr(thread, "_target", None) or type(thread).run
    if run is getattr(pools, "_worker", None):
        executor = thread._args[0]()
        return executor is not None and executor._idle_semaphore._value >= len(executor._threads)
    name = getattr(run, "__module__", "")
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    is_package = "site-packages" in file or "dist-packages" in file
    return is_package and not functions.is_allowed(name, settings().jobs_modules)
