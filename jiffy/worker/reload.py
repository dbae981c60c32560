"""New code for running workers: tried in a process of its own, and asked for when a file changes.

`Supervisor.reload` does the rest, at SIGHUP.
"""

import os
import signal
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from jiffy import log
from jiffy.errors import MissingExtra
from jiffy.worker import preload

# The part of a process that only tries the code; how it ends if it has logged why that fails.
TRIAL, REPORTED = "trial", 65


def try_code(modules: Sequence[str]) -> int:
    """Import the jobs' modules in this process; return its exit code."""
    for _, error in preload.import_each(modules):
        if error:
            log_failure(module=error.module, reason=error)
            return REPORTED
    return 0


def log_failure(**why: object) -> None:
    """Log, in one line, that the new code is not used."""
    log.event("reload.failed", log.ERROR, **why, effect="the workers keep the code they have")


def watching(modules: Sequence[str]) -> Callable[[], int]:
    """What a companion of the supervisor does to watch these modules, and their neighbours in the
    same package.  Raises MissingExtra.
    """
    if find_spec("watchfiles") is None:
        raise MissingExtra("dev", "watchfiles")
    return lambda: _watch(tuple(_roots(modules)))


def _roots(modules: Sequence[str]) -> list[str]:
    """The folders of the modules' packages; of a module that is in none, its file."""
    specs = [PathFinder.find_spec(name.partition(".")[0]) for name in modules]
    return [
        root
        for spec in specs
        if spec
        for root in spec.submodule_search_locations or [spec.origin or ""]
    ]


def _watch(roots: tuple[str, ...]) -> int:
    from watchfiles import PythonFilter, watch

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    log.quieten("watchfiles")
    is_python = PythonFilter()
    # Of a file its folder, since editors replace a file.
    folders = {root if Path(root).is_dir() else str(Path(root).parent) for root in roots}
    for _ in watch(
        *folders,
        watch_filter=lambda change, path: path.startswith(roots) and is_python(change, path),
    ):
        os.kill(os.getppid(), signal.SIGHUP)
    return 0
