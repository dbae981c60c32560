"""The payload: a call of a function, checked and put into the form in which it travels.

Nothing is run here.
"""

import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple
from uuid import UUID

from jiffy.errors import CallTooLarge, NotImportable, ValidationError, WrongArguments
from jiffy.json_types import SCALARS, Converter, builtins, encode, is_unchanged, not_json
from jiffy.producer import functions, masking
from jiffy.producer.functions import Args, Kwargs
from jiffy.settings import settings

_MOST_SHOWN = 75  # of one argument in a description: as in RQ
_SHOWN = (date, time, timedelta, Decimal, Enum, PurePath, UUID)
_MOST_SHAPES = 100  # of the calls of one function
# What to do about a value that JSON cannot carry; the dots are its own.
_INSTEAD = {
    "bytes": "pass the path of a file, or a string",
    "date": "pass its isoformat()",
    "datetime": "pass its isoformat(), or its timestamp()",
    "Decimal": "pass it as a string: str(…)",
    "PosixPath": "pass it as a string: str(…)",
    "UUID": "pass it as a string: str(…)",
    "frozenset": "pass a list",
    "set": "pass a list",
    "timedelta": "pass its total_seconds()",
    "tuple": "pass a list",
}
_ANYTHING_ELSE = "pass a number, a string, a list, a dict, or the path of a file"
_NO_FUNCTION = "is not a function that a worker could import by its name; enqueue a plain function"
_GENERATOR = (
    "is a generator function, and no worker iterates over what it returns; enqueue a function that "
    "loops over it"
)


class Placeholder(dict[str, bool]):
    """`result` in a part of a chain or group; `release_waiting` in Lua puts the value there."""

    def __repr__(self) -> str:
        return "result"


# Whatever an argument is to be, a result may be.
result: Any = Placeholder({"jiffy:result": True})
# In a job's data.  Quotes inside JSON's strings are escaped, so this stands nowhere else.
MARK = '{"jiffy:result": true}'


def count_results(value: object) -> int:
    """How often `result` itself stands inside lists and dicts."""
    if isinstance(value, Placeholder):
        return 1
    if isinstance(value, dict):
        value = [*value.values()]
    return sum(map(count_results, value)) if isinstance(value, list | tuple) else 0


class Call(NamedTuple):
    """What a job carries: RQ's data, and the description of the call, without secrets."""

    data: str
    description: str


@dataclass(frozen=True, eq=False)
class Target:
    """A function that workers can import and may run; calls of it are checked here."""

    path: str
    head: str  # of the data: all that comes before the arguments
    function: functions.Function
    plan: functions.Plan
    is_typed: bool  # there is something to convert or to check
    fitting: range  # how many positional arguments fit without a closer look
    secrets: str  # see `masking.is_secret_place`
    most_bytes: int
    # Shapes of calls that need no look at their values: they fit, and are sent as they are.
    known: set[tuple[object, ...]] = field(default_factory=set)

    def call(self, args: Args, kwargs: Kwargs) -> Call:
        """The call, converted by its annotations.  Raises WrongArguments, CallTooLarge."""
        # How the argument list looks: most calls of a function look like one before.
        shape = (*map(type, args), *kwargs, *map(type, kwargs.values()))
        is_known, given = shape in self.known, (args, kwargs)
        if not is_known:
            args, kwargs = self._checked(args, kwargs)
        try:
            data = self.head + encode((args, kwargs))[1:]
        except (TypeError, ValueError, RecursionError) as error:
            raise self._unsendable(args, kwargs, error) from None
        if len(data) > self.most_bytes:
            values = self.plan.named_values(args, kwargs)
            sizes = {name: len(encode(value)) for name, value, _ in values}
            largest = max(sizes, key=sizes.__getitem__)
            raise CallTooLarge(self.path, len(data), self.most_bytes, largest)
        if not is_known:
            if not self._arrives(args, kwargs, data):
                raise self._unsendable(args, kwargs, ValueError("they would change"))
            if len(self.known) < _MOST_SHAPES and self._are_scalars(*given):
                self.known.add(shape)
        # The description mirrors rq.utils.get_call_string.
        parts = [*map(_shown, args)]
        if self.secrets:
            hidden = masking.is_secret_place
            parts = [_shown(value, hidden(self.secrets, n)) for n, value in enumerate(args)]
        if kwargs:
            parts += sorted(
                f"{name}={_shown(value, masking.is_secret(name))}" for name, value in kwargs.items()
            )
        return Call(data, f"{self.path}({', '.join(parts)})")

    def _checked(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """The arguments as they are sent.  Raises WrongArguments where they do not fit."""
        if kwargs or len(args) not in self.fitting:
            self.plan.check(self.function.__name__, args, kwargs)
        if not self.is_typed:
            return args, kwargs
        try:
            return self.plan.converted(_packed, args, kwargs)
        except ValidationError as error:
            raise self._unfit(error) from None

    def _are_scalars(self, args: Args, kwargs: Kwargs) -> bool:
        parameters = self.plan.parameters(args, kwargs)
        return all(
            type(value) in (one.converter.scalars if one.converter else SCALARS)
            for value, one in zip((*args, *kwargs.values()), parameters, strict=True)
        )

    def canonical(self, data: str) -> str:
        """The same string for the same call, however its arguments were written."""
        path, _, args, kwargs = json.loads(data)
        if self.plan.signature is None:
            return data

        def default(value: Any) -> Any:
            try:
                return builtins(value)
            except TypeError:
                return repr(value)

        with suppress(ValidationError):  # it may be another program's call, which does not fit
            args, kwargs = self.plan.converted(_normal, args, kwargs)
        bound = self.plan.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        written = json.dumps([path, bound.arguments], sort_keys=True, default=default)
        return json.dumps(json.loads(written, parse_float=_whole))

    def _arrives(self, args: Args, kwargs: Kwargs, data: str) -> bool:
        """Whether what no annotation converts is read as it was passed."""
        values = [*args, *kwargs.values()]
        if self.is_typed:
            parameters = self.plan.parameters(args, kwargs)
            loose = zip(values, parameters, strict=True)
            values = [value for value, parameter in loose if not parameter.converter]
        others = [value for value in values if type(value) not in SCALARS]
        # Lists of scalars cannot change: there is no other list or dict in the data.
        are_flat = data.count("{") == 1 and data.count("[") == 2 + len(others)
        if not others or (are_flat and all(type(value) is list for value in others)):
            return True
        if self.is_typed:
            return is_unchanged(others)
        return is_unchanged([[*args], kwargs], f"[{data[len(self.head) :]}")

    def _unfit(self, error: ValidationError) -> WrongArguments:
        if error.is_key:
            has = f"{_above(error)} has the key {error.value!r}"
            return WrongArguments(f"{self.path}: {has}, which must be {error.must}.")
        is_secret = any(masking.is_secret(str(part)) for part in error.path)
        # The repr of an object, or of a list of them, may show a secret.
        is_shown = isinstance(error.value, _SHOWN) or not not_json(error.value, strictly=True)
        got = _shown(error.value, is_secret) if is_secret or is_shown else _a(error.value)
        return WrongArguments(f"{self.path}: {error.where}: expected {error.must}, got {got}.")

    def _unsendable(self, args: Args, kwargs: Kwargs, error: Exception) -> WrongArguments:
        for name, value, parameter in self.plan.named_values(args, kwargs):
            if not (found := not_json(value, strictly=True)):
                continue
            found, what = found.below(name), _a(found.value)
            annotate = "annotate the parameter, or "
            if parameter.unfit:
                annotate = f"its annotation {parameter.unfit} cannot be converted: "
            instead = _INSTEAD.get(type(found.value).__name__, _ANYTHING_ELSE)
            where = found.where
            if found.is_key:
                where = f"the key {_shown(found.value)} of {_above(found)}"
                instead = "pass its str(…)"
            elif found.value == "…":
                where, what, annotate = name, "nested too deeply, or contains itself", ""
                instead = "pass the path of a file"
            elif type(found.value) is int:
                what, annotate = "a number of more digits than JSON is read with", ""
                instead = "pass it as hex(…)"
            elif type(found.value) is float:
                what, annotate, instead = f"{found.value}", "", "pass None"
            remedy = f"{annotate}{instead}"
            return WrongArguments(
                f"{self.path}: {where} cannot be sent as JSON: it is {what}. "
                f"{remedy[0].upper()}{remedy[1:]}."
            )
        return WrongArguments(f"{self.path}: the arguments cannot be sent as JSON: {error}.")


def target(function: Callable[..., object]) -> Target:
    """The function as one that workers can run.

    Raises NotImportable, NotAllowed, UnknownFunction or BrokenModule where they cannot, or may not.
    """
    config = settings()
    try:
        return _target(function, config.jobs_modules, config.job_max_bytes)
    except TypeError:  # it cannot be hashed, so it is no function
        raise NotImportable(repr(function), _NO_FUNCTION) from None


@lru_cache(maxsize=4096)
def _target(function: functions.Function, modules: tuple[str, ...], most_bytes: int) -> Target:
    refuse_unnamed(function)
    path = functions.path_of(function)
    functions.find(path, modules)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise NotImportable(path, _GENERATOR)
    plan = functions.plan(function)
    parameters = list(plan.signature.parameters.values()) if plan.signature else []
    needed = [p for p in parameters if p.default is p.empty]
    positional = sum(1 for p in parameters if p.kind in functions.POSITIONAL)
    fitting = range(len(needed), positional + 1)
    if any(p.kind not in functions.POSITIONAL for p in needed):
        fitting = range(0)
    secrets = ",".join(
        f"{n}-" if p.kind == p.VAR_POSITIONAL else f"{n}"
        for n, p in enumerate(parameters)
        if p.kind in (*functions.POSITIONAL, p.VAR_POSITIONAL) and masking.is_secret(p.name)
    )
    head, is_typed = f"[{encode(path)}, null, ", bool(plan.converters)
    return Target(path, head, function, plan, is_typed, fitting, secrets, most_bytes)


def refuse_unnamed(function: Any) -> None:
    """Refuse what a worker could not import by its name; raises NotImportable."""
    name = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if isinstance(function, str):
        reason = "is a string; to enqueue a function by its path, use enqueue.by_path"
    elif not (callable(function) and isinstance(name, str) and isinstance(module, str)):
        reason = _NO_FUNCTION
    elif "<lambda>" in name:
        reason = "is a lambda, which has no name to import it by; write it with def"
    elif "<locals>" in name:
        reason = (
            "is defined inside another function, where no worker could import it; "
            "move it to the top of its module (a decorator needs functools.wraps)"
        )
    elif module == "__main__":
        reason = "is in the program itself (__main__); move it to a module under jobs"
    else:
        return
    raise NotImportable(name if isinstance(name, str) else repr(function), reason)


def _shown(value: Any, is_secret: bool = False) -> str:
    try:
        is_plain = type(value) in SCALARS and not is_secret
        shown = repr(value if is_plain else masking.masked(value, is_secret_itself=is_secret))
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        return "…"
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."


def _whole(digits: str) -> float:
    """A number as it is; 2.0 as 2, which is the same to JSON and to Python."""
    number = float(digits)
    return int(number) if number.is_integer() else number


def _packed(converter: Converter, value: Any) -> Any:
    """What is sent of an argument; where a result is still to come, the worker converts it."""
    try:
        return converter.pack(value)
    except ValidationError:
        with suppress(RecursionError):
            if count_results(value):
                return value
        raise


def _normal(converter: Converter, value: Any) -> Any:
    """The same for what arrives as the same: a dict for a dataclass, without what it has anyway."""
    return builtins(converter.unpack(value), is_sorted=converter.has_sets)


def _above(error: ValidationError) -> str:
    return ValidationError(None, "", error.path[:-1]).where


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeio' else 'a'} {kind}"
