"""Jobs that leave something behind, and one that says what it finds."""

import asyncio
import contextvars
import decimal
import faulthandler
import gc
import locale
import logging
import logging.config
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

TENANT = contextvars.ContextVar("tenant", default="")
SQL = logging.getLogger("shop.sql")
KEPT = []  # what a module keeps is shared on purpose
SAID = []
POOL = ThreadPoolExecutor(1)


def _limit_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _set_zone():
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _profile():
    signal.signal(signal.SIGPROF, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)


def _leave_cwd():
    os.chdir(tempfile.mkdtemp())
    Path.cwd().rmdir()


def _open_all_files():
    with suppress(OSError):
        while True:
            KEPT.append(Path(__file__).open())  # noqa: SIM115


def _keep_closed_loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


def _fork():
    pid = os.fork()
    if not pid:
        threading.Event().wait()
    KEPT.append(pid)


def _ask_server(port):
    KEPT.append(socket.create_connection(("127.0.0.1", port)))


RESTORED = {
    "nothing": lambda: None,
    "context variable": lambda: TENANT.set("acme"),
    "decimal context": lambda: setattr(decimal.getcontext(), "prec", 3),
    "cwd": lambda: os.chdir("/"),
    "cwd that was deleted": _leave_cwd,
    "umask": lambda: os.umask(0o777),
    "environment": lambda: os.environ.update(SHOP="acme", PATH=""),
    "less environment": os.environ.clear,
    "other environment": lambda: setattr(os, "environ", {"SHOP": "acme"}),
    "copied environment": lambda: setattr(os, "environ", os.environ.copy()),
    "zone": _set_zone,
    "SIGCHLD": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    "SIGUSR1": lambda: signal.signal(signal.SIGUSR1, print),
    "SIGTERM": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    "signal mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD]),
    "timer": lambda: signal.setitimer(signal.ITIMER_REAL, 60),
    "watchdog": lambda: faulthandler.dump_traceback_later(0.05, exit=True),
    "profiler": _profile,
    "trace function": lambda: sys.settrace(lambda *_: None),
    "profile function": lambda: sys.setprofile(lambda *_: None),
    "log records": lambda: logging.setLogRecordFactory(dict),
    "socket timeout": lambda: socket.setdefaulttimeout(0.001),
    "recursion limit": lambda: sys.setrecursionlimit(150),
    "sys.path": sys.path.clear,
    "sys.path, again": lambda: sys.path.append("/shop"),
    "sys.argv": lambda: setattr(sys, "argv", ["other"]),
    "sys.stdout": lambda: setattr(sys, "stdout", None),
    "sys.stderr": lambda: setattr(sys, "stderr", sys.stdout),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "resource limit": _limit_files,
    "warnings": lambda: warnings.simplefilter("error"),
    "garbage collector": gc.disable,
    "dictConfig": lambda: logging.config.dictConfig({"version": 1, "root": {"level": "ERROR"}}),
    "dictConfig alone": lambda: logging.config.dictConfig({"version": 1}),
    "logging.disable": lambda: logging.disable(logging.CRITICAL),
    "basicConfig": lambda: logging.basicConfig(force=True, level=logging.DEBUG),
    "logger's level": lambda: SQL.setLevel(logging.DEBUG),
    "logger's handler": lambda: logging.getLogger().addHandler(logging.NullHandler()),
    "closed event loop": _keep_closed_loop,
}
REPLACED = {
    "thread": lambda: threading.Thread(target=threading.Event().wait, daemon=True).start(),
    "timer thread": lambda: threading.Timer(60, print).start(),
    "process": lambda: KEPT.append(subprocess.Popen(["sleep", "60"])),
    "fork": _fork,
    "file": lambda: KEPT.append(Path(__file__).open()),  # noqa: SIM115
    "as many files as may be open": _open_all_files,
    "pipe": lambda: KEPT.append(os.pipe()),
    "event loop": lambda: KEPT.append(asyncio.new_event_loop()),
    "listening socket": lambda: KEPT.append(socket.create_server(("127.0.0.1", 0))),
    "closed stdout": lambda: sys.stdout.close(),
    "closed stderr": lambda: sys.stderr.close(),
    "hard resource limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
}


def kill_itself(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    __eq__ = kill_itself
    __hash__ = None


def change_default_context():
    decimal.DefaultContext.prec = 3


def change_root():
    os.chroot("/usr")


def leave_trap():
    sys.argv = Deadly()


class Incomparable:
    def __eq__(self, other):
        raise ValueError("no comparison")

    __hash__ = None


# No sign tells of these.
UNSEEN = {
    "gc thresholds": lambda: gc.set_threshold(1),
    "digits of numbers": lambda: sys.set_int_max_str_digits(640),
    "non-blocking streams": lambda: os.set_blocking(1, False),
    "switch interval": lambda: sys.setswitchinterval(1),
    "exception hook": lambda: setattr(sys, "excepthook", print),
    "folder for temporary files": lambda: setattr(tempfile, "tempdir", "/nowhere"),
}
REPLACED["sys.argv that cannot be compared"] = lambda: setattr(sys, "argv", Incomparable())
KEEPS = {
    "connection": _ask_server,
    "database": lambda path: KEPT.append(sqlite3.connect(path).execute("CREATE TABLE a (b)")),
    "pool of threads": lambda _: POOL.submit(int).result(),
}


def pollute(name):
    {**RESTORED, **REPLACED, **UNSEEN}[name]()


def keep(name, given):
    KEEPS[name](given)


def probe():
    """What a job finds, as text."""
    loop = asyncio.events._event_loop_policy
    root, ours = logging.getLogger(), logging.getLogger("jiffy")
    return {
        "context": f"{TENANT.get()} {decimal.Decimal('1234.56') * 2}",
        "cwd": _try(os.getcwd),
        "umask": _umask(),
        "environment": [type(os.environ).__name__, dict(os.environ)],
        "zone": time.tzname,
        "signals": [
            getattr(found := signal.getsignal(n), "__qualname__", str(found))
            for n in sorted(signal.valid_signals())
        ],
        "mask": str(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timers": [signal.getitimer(number)[0] for number in range(3)],
        "tracing": [str(sys.gettrace()), str(sys.getprofile())],
        "socket timeout": socket.getdefaulttimeout(),
        "recursion limit": sys.getrecursionlimit(),
        "sys.path": sys.path,
        "sys.argv": sys.argv,
        "streams": [getattr(s, "name", None) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "stdout": sys.stdout is not None and not sys.stdout.closed,
        "locale": locale.setlocale(locale.LC_ALL, None),
        "limits": [str(resource.getrlimit(n)) for n in range(16)],
        "warnings": [str(one) for one in warnings.filters],
        "gc": [gc.isenabled(), gc.get_threshold()],
        "digits of numbers": sys.get_int_max_str_digits(),
        "blocking": [os.get_blocking(fd) for fd in range(3)],
        "switch interval": sys.getswitchinterval(),
        "exception hook": sys.excepthook.__name__,
        "temporary files": tempfile.gettempdir(),
        "log": [
            logging.getLogRecordFactory().__name__,
            ours.isEnabledFor(20),
            SQL.level,
            SQL.disabled,
            root.level,
            str(root.handlers),
        ],
        "loop": [str(loop), vars(loop._local) if loop else None],
        "threads": [thread.name for thread in threading.enumerate()],
        "children": _children(),
        "files": sorted(_files()),
    }


def _umask():
    return int(next(line for line in Path("/proc/self/status").open() if "Umask" in line)[7:], 8)


def _try(read):
    try:
        return read()
    except OSError as error:
        return str(error)


def _children():
    tasks = Path("/proc/self/task").glob("*/children")
    return " ".join(task.read_text() for task in tasks).split()


def _files():
    for link in Path("/proc/self/fd").iterdir():
        target = _try(lambda link=link: str(link.readlink()))
        if not target.endswith("/fd"):
            yield target.partition("[")[0]


async def leave_task():
    """Leave a task that has not ended, and an async generator."""

    async def later():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            SAID.append("task cleaned up")

    async def numbers():
        try:
            yield 1
        finally:
            SAID.append("generator closed")

    KEPT.append(asyncio.create_task(later()))
    KEPT.append(numbers())
    await anext(KEPT[-1])
    await asyncio.sleep(0)


def cleaned_up():
    return SAID


def fill(megabytes):
    KEPT.append(bytearray(b"x" * (megabytes << 20)))


def last(duration_s):
    threading.Event().wait(duration_s)
    return os.getpid()


def close_all():
    os.closerange(0, 1000)


def mark():
    """Leave a mark in the process; return what was there, and which process it is."""
    KEPT.append("mark")
    return len(KEPT), os.getpid()
