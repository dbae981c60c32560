"""What a project hands to Jiffy: its usual options, its schedule, its web app.

Each is named as `module:NAME`, or stands in a file of the usual name.  Its module is imported when
it is needed, never with the engine.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jiffy import functions
from jiffy.errors import InvalidValue, WrongArguments
from jiffy.settings import is_reference


def options(reference: str | None) -> Any:
    """OPTIONS, as `reference` names it; without one that of `enqueue.py`, if there is one."""
    if reference:
        return named("OPTIONS", reference)
    return _own("enqueue", "OPTIONS", sign="OPTIONS") or {}


def schedule(reference: str | None) -> Any:
    """SCHEDULE, as `reference` names it; without one that of `scheduler.py`.

    Raises WrongArguments if there is none.
    """
    if reference:
        return named("SCHEDULE", reference)
    found = _own("scheduler", "SCHEDULE", sign="SCHEDULE")
    if found is None:
        raise WrongArguments("No scheduler.py here. Name the schedule: shop.schedule:SCHEDULE.")
    return found


def app() -> Any:
    """The web app of `dashboard.py`, or None."""
    return _own("dashboard", "app", sign="web_app")


def named(name: str, reference: str) -> Any:
    """The object that `reference` names; an error calls it `name`.

    Raises InvalidValue if there is none, and BrokenModule if its module fails as it is imported.
    """
    if not is_reference(reference):
        raise InvalidValue(name, reference, f"a module and a name in it, such as shop.jobs:{name}")
    module_name, _, attribute = reference.partition(":")
    module = functions.imported(module_name)
    if hasattr(module, attribute):
        return getattr(module, attribute)
    if module_name not in sys.modules:
        raise InvalidValue(name, reference, f"in a module that exists; there is no {module_name!r}")
    raise InvalidValue(name, reference, f"a name that {module_name} defines; {attribute} is not")


def _own(module_name: str, attribute: str, *, sign: str) -> Any:
    """What the project's file of that name has; None if there is no such file.

    Another program's file of that name is not even imported: `sign` is not in its text.
    """
    if module_name in sys.modules:
        file = getattr(sys.modules[module_name], "__file__", None)
    else:
        spec = find_spec(module_name)
        file = spec.origin if spec else None
    if not file or sign not in Path(file).read_text(encoding="utf-8", errors="replace"):
        return None
    return named(attribute, f"{module_name}:{attribute}")
