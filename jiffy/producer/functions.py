"""A job's function: found by its path, and the arguments that it takes.  It is not run here."""

import difflib
import importlib
import inspect
import json
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from jiffy.errors import BrokenModule, NotAllowed, UnknownFunction, WrongArguments, did_you_mean

Function = Callable[..., Any]

_Parameter = inspect.Parameter

_METHODS = (staticmethod, classmethod)
# Why a path is not allowed, and what to do about it.
_MOVE_IT = "Move it there, or add its module to JOBS_MODULES."
_WRAP_IT = "Enqueue a public function of your own that calls it."
_CLASS = "is a class. Enqueue a function, or a static or class method of it."
_METHOD = "is a method of an object. Enqueue a function, or a static or class method."


def find(path: str, modules: tuple[str, ...]) -> Function:
    """Import the function that `path` names, under one of `modules`.

    It is a function of a module ("jobs.images.resize"), or a static or class method of a class
    ("jobs.orders.Order.close").  Raises UnknownFunction (with the nearest name), NotAllowed, or
    BrokenModule where the module is there but fails as it is imported.
    """
    if not is_allowed(path, modules) and (near := _nearest(path, modules)):
        raise UnknownFunction(path, near)
    check_path(path, modules)
    found, names = _module_of(path)
    for name in names:
        owner, found = found, _member(found, name)
        if _is_imported(found, modules):
            raise NotAllowed(path, f"is imported from elsewhere. {_WRAP_IT}")
        if isinstance(_made(owner, name), types.FunctionType):
            raise NotAllowed(path, _METHOD)
    if not names or not callable(found):
        module = path.removesuffix("".join(f".{name}" for name in names))
        raise UnknownFunction(path, _nearest(path, modules), _outdated(module))
    if isinstance(found, type):
        raise NotAllowed(path, _CLASS)
    return typing.cast(Function, found)


def check_path(path: str, modules: tuple[str, ...]) -> None:
    """Raise NotAllowed for what is not under `modules` or is private there; import nothing."""
    above = [module for module in modules if is_allowed(path, (module,))]
    if not above:
        raise NotAllowed(path, f"is not under {' or '.join(modules)}. {_MOVE_IT}")
    # A module that JOBS_MODULES itself names may be private.
    for name in path.removeprefix(max(above, key=len)).split("."):
        if name.startswith("_"):
            raise NotAllowed(path, f"is private: {name} begins with an underscore. {_WRAP_IT}")


def load(name: str) -> Iterator[str]:
    """Import the module `name` and all that is in it, one by one; yield the name of each.

    Raises BrokenModule for the first that fails, and for a `name` that is not there.
    """
    for module_name in _modules_in(name):
        imported(module_name)
        yield module_name
    if name not in sys.modules:
        raise BrokenModule(name, ModuleNotFoundError("there is no such module"))


def is_allowed(path: str, modules: tuple[str, ...]) -> bool:
    """Whether `path` is one of `modules` or stands below one."""
    return any(path == module or path.startswith(f"{module}.") for module in modules)


def path_of(function: Function) -> str:
    """The path of `function`, as it goes into a job."""
    owner = getattr(function, "__self__", None)
    if inspect.ismethod(function) and isinstance(owner, type):
        # An inherited class method has the qualified name of the class that defines it.
        return f"{owner.__module__}.{owner.__qualname__}.{function.__name__}"
    return f"{function.__module__}.{function.__qualname__}"


def check(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise WrongArguments, with the reason, unless `function` can be called like that."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        reason = (
            _reason(function, signature, args, kwargs) or f"cannot be called like that: {error}"
        )
        raise WrongArguments(
            f"{function.__name__}() {reason}. It takes {function.__name__}{signature}."
        ) from None


def from_words(function: Function, words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Convert a shell's words to the types in the function's signature; `name=value` is a keyword
    argument.

    Raises WrongArguments for a value that does not fit its parameter's type, and for all that
    `check` refuses.
    """
    return from_strings(function, *split(function, words))


def split(function: Function, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A shell's words, as positional and keyword arguments, still strings.

    `name=value` is a keyword argument, but a positional one where only `*args` could take it.
    """
    parameters = _typed(function)[0].parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    takes_any_name = _Parameter.VAR_POSITIONAL not in kinds or _Parameter.VAR_KEYWORD in kinds
    args: list[str] = []
    kwargs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier() and (takes_any_name or name in parameters):
            kwargs[name] = value
        else:
            args.append(word)
    return args, kwargs


def from_strings(
    function: Function, args: Sequence[str], kwargs: Mapping[str, str]
) -> tuple[list[Any], dict[str, Any]]:
    """Convert strings to the types in the function's signature; raises what `from_words` does."""
    signature, hints = _typed(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        check(function, args, kwargs)  # says why
        raise

    def convert(name: str, string: str, hint: Any) -> Any:
        try:
            return _convert(string, hint)
        except ValueError:
            needed = f"{name!r} as {_in_words(hint)}, not {string!r}"
            raise WrongArguments(f"{function.__name__}() needs {needed}.") from None

    for name, value in bound.arguments.items():
        hint = hints.get(name, Any)
        if isinstance(value, tuple):  # *args
            bound.arguments[name] = tuple(convert(name, string, hint) for string in value)
        elif isinstance(value, dict):  # **kwargs
            bound.arguments[name] = {key: convert(key, one, hint) for key, one in value.items()}
        else:
            bound.arguments[name] = convert(name, value, hint)
    return list(bound.args), dict(bound.kwargs)


@lru_cache(maxsize=64)
def _typed(function: Function) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(function), typing.get_type_hints(function)


def _module_of(path: str) -> tuple[Any, list[str]]:
    """The module that `path` begins with, imported, and the names behind it."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        module = imported(name)
        if name in sys.modules:
            return module, parts[count:]
    return None, []


def _member(owner: Any, name: str) -> Any:
    """The attribute of a module or a class; of a class only functions and classes."""
    is_module = isinstance(owner, types.ModuleType)
    return getattr(owner, name, None) if is_module or _made(owner, name) else None


def _made(owner: Any, name: str) -> Any:
    """What the source of the class `owner` has by this name, if it is a function or a class."""
    made = inspect.getattr_static(owner, name, None) if isinstance(owner, type) else None
    return made if isinstance(made, (*_METHODS, types.FunctionType, type)) else None


def _is_imported(found: Any, modules: tuple[str, ...]) -> bool:
    """Whether it is a function, a class or a module from outside of `modules`."""
    is_module = isinstance(found, types.ModuleType)
    home = getattr(found, "__name__" if is_module else "__module__", None)
    is_ours = isinstance(home, str) and is_allowed(home, modules)
    return (is_module or callable(found)) and not is_ours


def imported(name: str) -> types.ModuleType:
    """The module `name`, imported; an empty one if it does not exist.  Raises BrokenModule."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return types.ModuleType(name)
        raise BrokenModule(name, error) from error
    except Exception as error:  # a user's module may raise anything as it loads
        raise BrokenModule(name, error) from error
    if name not in _as_imported:
        _as_imported[name] = _stamp(module)
    return module


# Of each module, when its file was changed last, and its size, as it was imported.
_as_imported: dict[str, tuple[int, int]] = {}


def _outdated(name: str) -> str | None:
    """The module of that name, if its file has changed since it was imported."""
    module = sys.modules.get(name)
    is_outdated = module and _stamp(module) != _as_imported.get(name, _stamp(module))
    return name if is_outdated else None


def _stamp(module: types.ModuleType) -> tuple[int, int]:
    try:
        file = Path(str(module.__file__)).stat()
    except (AttributeError, OSError):  # a package without a file, or it is gone
        return 0, 0
    return file.st_mtime_ns, file.st_size


def _nearest(path: str, modules: tuple[str, ...]) -> str | None:
    return next(iter(difflib.get_close_matches(path, _all_paths(modules), 1, 0.75)), None)


def _all_paths(modules: tuple[str, ...]) -> Iterator[str]:
    """The paths of all public functions in and under `modules`; broken modules are passed over."""
    for name in modules:
        for module_name in _modules_in(name):
            with suppress(BrokenModule):
                yield from _paths_in(imported(module_name), module_name)


def _paths_in(owner: types.ModuleType | type, path: str) -> Iterator[str]:
    """The paths of the public functions that a module or a class defines."""
    kinds = _METHODS if isinstance(owner, type) else (types.FunctionType,)
    for name, member in list(vars(owner).items()):
        here, home = f"{path}.{name}", getattr(member, "__module__", "")
        if not name.startswith("_") and f"{home}.{getattr(member, '__qualname__', '')}" == here:
            if isinstance(member, type):
                yield from _paths_in(member, here)
            elif isinstance(member, kinds):
                yield here


def _modules_in(name: str) -> Iterator[str]:
    yield name
    path = getattr(imported(name), "__path__", [])
    yield from (found.name for found in pkgutil.walk_packages(path, f"{name}."))


def _reason(
    function: Function,
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> str | None:
    """Why the call does not fit; None where only Python knows."""
    names = list(signature.parameters)
    for name in kwargs:
        if name not in names:
            return f"has no argument {name!r}{did_you_mean(str(name), names)}"
    if len(args) > len(names):
        return f"takes {len(names)} arguments, not {len(args)}"
    for name in names[: len(args)]:
        if name in kwargs:
            return f"was given the argument {name!r} twice"
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
    missing = [name for name in needed if name not in names[: len(args)] and name not in kwargs]
    return f"needs the argument {missing[0]!r}" if missing else None


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(_in_words, typing.get_args(hint)))
    if hint is types.NoneType:
        return "None"
    if choices := _choices(hint):
        return " or ".join(map(repr, choices))
    is_plain = isinstance(hint, type) and typing.get_origin(hint) is None
    return hint.__name__ if is_plain else str(hint)


def _convert(string: str, hint: Any) -> Any:
    """The value that `hint` wants; raises ValueError if it cannot be."""
    if hint in _FROM_STRING:
        return _FROM_STRING[hint](string)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        # The strictest first: every string is a str, so that comes last.
        for one in sorted(typing.get_args(hint), key=lambda one: one in (str, Path)):
            with suppress(ValueError):
                return _convert(string, one)
        raise ValueError(string)
    if choices := _choices(hint):
        for choice in choices:
            if str(choice) == string:
                return choice
        raise ValueError(string)
    return json.loads(string)


def _choices(hint: Any) -> Sequence[Any]:
    """What a Literal lists, or the values of an Enum that JSON can carry."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Enum) and issubclass(hint, str | int):
        return [member.value for member in hint]
    return ()


def _bool(string: str) -> bool:
    lowered = string.lower()
    if lowered not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError(string)
    return lowered in ("true", "yes", "1")


def _none(string: str) -> None:
    if string.lower() not in ("none", "null"):
        raise ValueError(string)


def _anything(string: str) -> Any:
    try:
        return json.loads(string)
    except ValueError:
        return string


_FROM_STRING: dict[Any, Callable[[str], Any]] = {
    str: str,
    Path: str,  # a path travels as a string
    int: int,
    float: float,
    bool: _bool,
    types.NoneType: _none,
    Any: _anything,
}
