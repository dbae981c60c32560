"""What a project hands to Jiffy: its usual options, its schedule, its web app.

Each is named as `module:NAME`, or stands in a file of the usual name.  Its module is imported when
it is needed, never with the engine.
"""

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jiffy.errors import BrokenModule, InvalidSetting, InvalidValue, WrongArguments
from jiffy.producer import functions
from jiffy.settings import is_reference


def check_modules(modules: Sequence[str]) -> None:
    """Raise InvalidSetting for modules of jobs that are not there; they may well be broken."""
    for name in modules:
        with suppress(BrokenModule):
            functions.imported(name)
            if name not in sys.modules:
                raise _not_there(name, modules)


def check_packages(modules: Sequence[str]) -> None:
    """The same for the packages that they are in, without importing anything."""
    for name in (module.partition(".")[0] for module in modules):
        if name not in sys.modules and not find_spec(name):
            raise _not_there(name, modules)


def _not_there(name: str, modules: Sequence[str]) -> InvalidSetting:
    must = f"modules that exist; there is no {name!r} in {Path.cwd()}"
    return InvalidSetting("JOBS_MODULES", ",".join(modules), must)


def roots(modules: Sequence[str]) -> list[str]:
    """The folders of the packages that these modules are in; of one that is in none, its file."""
    found: list[str] = []
    for spec in (PathFinder.find_spec(name.partition(".")[0]) for name in modules):
        if spec:
            found += spec.submodule_search_locations or [spec.origin or ""]
    return found


def options(reference: str | None) -> Any:
    """OPTIONS, as `reference` names it; without one that of `enqueue.py`, if there is one."""
    has_options = reference or _has("enqueue", "OPTIONS")
    return named("OPTIONS", reference or "enqueue:OPTIONS") if has_options else {}


def hooks(reference: str | None) -> Any:
    """HOOKS, as `reference` names it; without one that of `worker.py`; None if there is none."""
    has_hooks = reference or _has("worker", "Hooks(")
    return named("HOOKS", reference or "worker:HOOKS") if has_hooks else None


def schedule(reference: str | None) -> Any:
    """SCHEDULE, as `reference` names it; without one that of `scheduler.py`."""
    if not (reference or has_schedule()):
        raise WrongArguments("No scheduler.py here. Name the schedule: shop.schedule:SCHEDULE.")
    return named("SCHEDULE", reference or "scheduler:SCHEDULE")


def has_schedule() -> bool:
    """Whether there is a `scheduler.py`."""
    return _has("scheduler", "SCHEDULE")


def serves_dashboard() -> bool:
    """Whether a line of the Procfile starts the dashboard."""
    procfile = Path("Procfile")
    lines = procfile.read_text(encoding="utf-8").splitlines() if procfile.exists() else []
    return any(starts("dashboard", line.partition(":")[2]) for line in lines)


def starts(part: str, command: str) -> bool:
    """Whether it is ours that the command starts: Celery has workers, gunicorn --worker-class."""
    ours = rf"\b(?:jiffy|worker\.py)\b.*\b{part}\b(?!-)|\b{part}(?:\.py|:app)\b"
    return bool(re.search(ours, command))


def app(make: Callable[[Any], Any]) -> Any:
    """The web app of `dashboard.py`; or what `make` makes of its pages, if there are any."""
    if not _has("dashboard", "web_app"):
        return make(())
    try:
        module = functions.imported("dashboard")
    except BrokenModule as error:
        if isinstance(error.error, SystemExit):  # `web_app` has said why
            raise error.error from None
        raise
    if hasattr(module, "app"):
        return module.app
    return make(named("PAGES", "dashboard:PAGES"))  # `python dashboard.py` has come to here only


def named(name: str, reference: str) -> Any:
    """The object that `reference` names; an error calls it `name`."""
    if not is_reference(reference):
        raise InvalidValue(name, reference, f"a module and a name in it, such as shop.jobs:{name}")
    module_name, _, attribute = reference.partition(":")
    module = functions.imported(module_name)
    if hasattr(module, attribute):
        return getattr(module, attribute)
    if module_name not in sys.modules:
        raise InvalidValue(name, reference, f"in a module that exists; there is no {module_name!r}")
    raise InvalidValue(name, reference, f"a name that {module_name} defines; {attribute} is not")


def _has(module_name: str, sign: str) -> bool:
    """Whether it is the project's, not another program's, which is not even imported."""
    if module_name in sys.modules:
        file = getattr(sys.modules[module_name], "__file__", None)
    else:
        file = getattr(find_spec(module_name), "origin", None)
    return file is not None and sign in Path(file).read_text(encoding="utf-8", errors="replace")
