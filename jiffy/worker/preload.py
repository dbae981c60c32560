"""The jobs' modules: what children may share with their supervisor, and new code for running ones.

Processes that have one socket read each other's replies, and a thread is gone after a fork while
those who wait for it are not.  So a supervisor imports modules, and forks, only where nothing is
open.  Locks, and what a library has in memory alone, cannot be seen: docs/reliability.md.
"""

import faulthandler
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from jiffy import clock, log, os_compat
from jiffy.errors import BrokenModule, JiffyError, MissingExtra
from jiffy.producer import functions, project
from jiffy.producer.enqueue import check_project
from jiffy.worker import process
from jiffy.worker.finish import FinishPlan
from jiffy.worker.shared_memory import Board

# How the process that tries the imports ends; in any other way the imports have ended it.
_SAFE, _UNSAFE, _INVALID = 70, 71, 72
# How a process ends that was started with new code, if it has logged why it does not use that.
REPORTED = 65
# What a supervisor and a child must have alike: where each finds what on the board, and the plans.
ENGINE = " ".join([*Board.LAYOUT, *FinishPlan.__struct_fields__])
CHANGED = "Jiffy itself has changed: restart the workers"
# A thread that has ended leaves the system's list a moment later than Python's.
_LAST_BREATH_S = 0.1


def import_all(modules: Sequence[str]) -> None:
    """Import the modules, and all that is in them.

    One that fails is logged: its jobs fail with that reason, the others run.
    """
    for _, error in _import_each(modules):
        if error:
            log.event("module.broken", log.ERROR, module=error.module, reason=error)


def _import_each(modules: Sequence[str]) -> Iterator[tuple[str, BrokenModule | None]]:
    for name in modules:
        try:
            for module in functions.load(name):
                yield module, None
        except BrokenModule as error:
            yield error.module, error


def can_preload(modules: Sequence[str], *, forks: bool) -> bool:
    """Whether importing the modules opens nothing, as a process that is thrown away finds out.

    What a module opens is logged.  Raises BrokenModule if that process does not survive it, and
    what `check_project` raises.
    """
    if not forks:
        _check_project()
        return False
    pid = process.fork(lambda: _try(modules))
    _, status = os.waitpid(pid, 0)
    process.kill_group(pid)  # what the modules have started
    code = os.waitstatus_to_exitcode(status)
    if code == _INVALID:
        _check_project()
    if not os_compat.IS_LINUX:  # which shows what is open
        return False
    if code not in (_SAFE, _UNSAFE):
        cause = f"the process that imported it ended with {process.cause_of(status)}"
        raise BrokenModule(" or ".join(modules), ChildProcessError(cause))
    return code == _SAFE


def _try(modules: Sequence[str]) -> int:
    faulthandler.enable(2)  # where it happens to end, for the log
    openers = dict.fromkeys(os_compat.opened(), "")
    for module, _ in _import_each(modules):
        openers = dict.fromkeys(os_compat.opened(), module) | openers
    opened = defaultdict(list)
    for thing, found in _settled().items():
        opened[openers.get(thing, modules[-1])].append(found.words)
    opened.pop("", None)  # before the first module
    for module, words in opened.items():
        _warn(module, words)
    try:
        _check_project()
    except JiffyError:
        return _INVALID
    return _UNSAFE if opened else _SAFE


def _check_project() -> None:
    with suppress(BrokenModule):  # the jobs of the others run
        check_project(needs_jobs=True)


def has_opened(program: str) -> bool:
    """Whether this process has anything open that it did not get from the one that started it.

    That is logged, as what `program` has opened.
    """
    opened = [found.words for found in _settled().values() if not found.is_inherited]
    if opened:
        _warn(program, opened)
    return bool(opened)


def _warn(module: str, opened: Sequence[str]) -> None:
    log.event(
        "module.opened", log.WARNING, module=module, opened=", ".join(sorted(set(opened))),
        effect="not preloaded: each child imports for itself",
        remedy="open it inside the function that uses it",
    )  # fmt: skip


def _settled() -> dict[str, os_compat.Opened]:
    """What is open, when threads that are about to end have ended.

    A fork makes some libraries end their threads, and start them again when they are used (numpy's
    OpenBLAS does): they are no obstacle to forks.
    """
    if any(os_compat.threads()) and threading.active_count() == 1:
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    deadline = clock.monotonic() + _LAST_BREATH_S
    while os_compat.threads() and clock.monotonic() < deadline:
        clock.pause(_LAST_BREATH_S / 20)
    return os_compat.opened()


def try_code(modules: Sequence[str], engine: str) -> int:
    """Import the jobs' modules in this process, before running workers do; return its exit code.

    `engine` is the supervisor's.
    """
    if engine != ENGINE:
        log_failure(reason=CHANGED)
        return REPORTED
    for _, error in _import_each(modules):
        if error:
            log_failure(module=error.module, reason=error)
            return REPORTED
    return 0


def log_failure(**why: object) -> None:
    """Log, in one line, that the new code is not used."""
    log.event("reload.failed", log.ERROR, **why, effect="the workers keep the code they have")


def watching(modules: Sequence[str]) -> Callable[[], int]:
    """What a companion of the supervisor does to send it SIGHUP when one of these modules changes,
    or a neighbour in the same package.  Raises MissingExtra.
    """
    if find_spec("watchfiles") is None:
        raise MissingExtra("dev", "watchfiles")
    return partial(_watch, modules)


def _watch(modules: Sequence[str]) -> int:
    from watchfiles import PythonFilter, watch

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    log.quieten("watchfiles")
    roots = project.roots(modules)
    # Of a file its folder, since editors replace a file; not what is below: it may be a project's.
    folders = {root if Path(root).is_dir() else str(Path(root).parent) for root in roots}
    is_python = PythonFilter()
    for _ in watch(
        *folders,
        watch_filter=lambda change, path: path.startswith((*roots,)) and is_python(change, path),
        recursive=any(Path(root).is_dir() for root in roots),
    ):
        os.kill(os.getppid(), signal.SIGHUP)
    return 0
