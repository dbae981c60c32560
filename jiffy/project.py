"""What a project hands to Jiffy by name, as `module:NAME`: its options, its schedule, its web app.

Imported when it is first needed, never with the engine.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jiffy import functions
from jiffy.errors import InvalidValue
from jiffy.settings import is_reference

OPTIONS = "enqueue:OPTIONS"
SCHEDULE = "scheduler:SCHEDULE"
APP = "dashboard:app"


def load(reference: str, name: str) -> Any:
    """The object that `reference` names; `name` is what an error calls it.

    Raises InvalidValue if there is none, and BrokenModule if its module fails as it is imported.
    """
    if not is_reference(reference):
        must = f"a module and a name in it, such as shop.jobs:{name.upper()}"
        raise InvalidValue(name, reference, must)
    module_name, _, attribute = reference.partition(":")
    module = functions.imported(module_name)
    if hasattr(module, attribute):
        return getattr(module, attribute)
    if module_name not in sys.modules:
        raise InvalidValue(name, reference, f"in a module that exists; there is no {module_name!r}")
    raise InvalidValue(name, reference, f"a name that {module_name} defines; {attribute} is not")


def own(reference: str, name: str, sign: str) -> Any:
    """The same for a file of the project that has its usual name, or None if there is none.

    A stranger's module of that name is left alone, not even imported: `sign` is not in its text.
    """
    module_name = reference.partition(":")[0]
    if module_name in sys.modules:
        file = getattr(sys.modules[module_name], "__file__", None)
    else:
        spec = find_spec(module_name)
        file = spec.origin if spec else None
    if not file or sign not in Path(file).read_text(encoding="utf-8", errors="replace"):
        return None
    return load(reference, name)
