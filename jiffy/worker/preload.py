"""What children may share with their supervisor: modules, but nothing that a module has opened.

Processes that have one socket read each other's replies, and a thread is gone after a fork while
those who wait for it are not.  So a supervisor imports modules, and forks, only where nothing is
open.  Locks, and what a library has in memory alone, cannot be seen: docs/reliability.md.
"""

import faulthandler
import os
import threading
from collections.abc import Iterator, Sequence

from jiffy import clock, log, system
from jiffy.errors import BrokenModule
from jiffy.producer import functions
from jiffy.worker import process

# How the process that tries the imports ends; in any other way the imports have ended it.
_SAFE, _UNSAFE = 70, 71
# A thread that has ended leaves the system's list a moment later than Python's.
_LAST_BREATH_S = 0.1


def import_all(modules: Sequence[str]) -> None:
    """Import the modules, and all that is in them.

    One that fails is logged: its jobs fail with that reason, the others run.
    """
    for _, error in import_each(modules):
        if error:
            log.event("module.broken", log.ERROR, module=error.module, reason=error)


def can_preload(modules: Sequence[str]) -> bool:
    """Whether importing the modules opens nothing, as a process that is thrown away finds out.

    What a module opens is logged.  Raises BrokenModule if that process does not survive it.
    """
    if system.opened() is None:
        return False
    pid = process.fork(lambda: _try(modules))
    _, status = os.waitpid(pid, 0)
    process.kill_group(pid)  # what the modules have started
    code = os.waitstatus_to_exitcode(status)
    if code not in (_SAFE, _UNSAFE):
        cause = ChildProcessError(
            f"the process that imported it ended with {process.cause_of(status)}"
        )
        raise BrokenModule(" or ".join(modules), cause)
    return code == _SAFE


def has_opened(program: str) -> bool:
    """Whether this process has anything open that it did not get from the one that started it.

    That is logged, as what `program` has opened.
    """
    opened = [found.words for found in _settled().values() if not found.is_inherited]
    if opened:
        _warn(program, opened)
    return bool(opened)


def _try(modules: Sequence[str]) -> int:
    faulthandler.enable(2)  # where it happens to end, for the log
    before = _opened().keys()
    openers: dict[str, str] = {}
    for module, _ in import_each(modules):
        for thing in _opened().keys() - before:
            openers.setdefault(thing, module)
    left = _settled()
    by_module: dict[str, list[str]] = {}
    for thing in left.keys() - before:
        by_module.setdefault(openers.get(thing, modules[-1]), []).append(left[thing].words)
    for module, opened in by_module.items():
        _warn(module, opened)
    return _UNSAFE if by_module else _SAFE


def _warn(module: str, opened: Sequence[str]) -> None:
    log.event(
        "module.opened", log.WARNING, module=module, opened=", ".join(sorted(set(opened))),
        effect="not preloaded: each child imports for itself",
        remedy="open it inside the function that uses it",
    )  # fmt: skip


def import_each(modules: Sequence[str]) -> Iterator[tuple[str, BrokenModule | None]]:
    for name in modules:
        try:
            for module in functions.load(name):
                yield module, None
        except BrokenModule as error:
            yield error.module, error


def _settled() -> dict[str, system.Opened]:
    """What is open, when threads that are about to end have ended.

    A fork makes some libraries end their threads, and start them again when they are used (numpy's
    OpenBLAS does): they are no obstacle to forks.
    """
    if any(system.threads()) and threading.active_count() == 1:
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    deadline = clock.monotonic() + _LAST_BREATH_S
    while system.threads() and clock.monotonic() < deadline:
        clock.pause(_LAST_BREATH_S / 20)
    return _opened()


def _opened() -> dict[str, system.Opened]:
    return system.opened() or {}
