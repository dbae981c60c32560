"""The payload: a call of a function, checked and put into the form in which it travels.

Nothing is run here.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from jiffy.errors import CallTooLarge, NotImportable, WrongArguments
from jiffy.producer import functions, masking
from jiffy.settings import settings

_MOST_SHOWN = 75  # of one argument in a description: as in RQ
_PLAIN = frozenset({int, float, str, bool, type(None)})
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_INSTEAD = {
    "bytes": "Pass the path of a file, or a string.",
    "date": "Pass its isoformat().",
    "datetime": "Pass its isoformat(), or its timestamp().",
    "Decimal": "Pass it as a string: str(…).",
    "PosixPath": "Pass it as a string: str(…).",
    "UUID": "Pass it as a string: str(…).",
    "frozenset": "Pass a list.",
    "set": "Pass a list.",
    "timedelta": "Pass its total_seconds().",
}
_ANYTHING_ELSE = "Pass a number, a string, a list, a dict, or the path of a file."
_NO_FUNCTION = "is no function that a worker could import by its name; enqueue a plain function"

# A list that contains itself ends in a RecursionError here, and json.dumps says what it is.
_encode = json.JSONEncoder(check_circular=False).encode


class Placeholder(dict[str, bool]):
    """`result` in a part of a chain or group: it travels as a small JSON object, at any depth.

    `release_waiting` in Lua puts the value in its place; then it is a job like any other.
    """

    def __repr__(self) -> str:
        return "result"


# Whatever an argument is to be, a result may be.
result: Any = Placeholder({"jiffy:result": True})
# In a job's data.  Quotes inside JSON's strings are escaped, so this stands nowhere else.
MARK = '{"jiffy:result": true}'


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
    signature: inspect.Signature | None
    fitting: range  # how many positional arguments fit without a closer look
    secrets: masking.Places
    most_bytes: int

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """The call with these arguments.

        Raises WrongArguments where they do not fit or JSON cannot carry them, or CallTooLarge.
        """
        if kwargs or len(args) not in self.fitting:
            self.check(args, kwargs)
        try:
            data = self.head + _encode((args, kwargs))[1:]
        except (TypeError, ValueError, RecursionError) as error:
            raise self._unfit(args, kwargs, error) from None
        if len(data) > self.most_bytes:
            sizes = {name: len(_encode(value)) for name, value in self._named(args, kwargs)}
            largest = max(sizes, key=sizes.__getitem__)
            raise CallTooLarge(self.path, len(data), self.most_bytes, largest)
        # One brace is that of `kwargs`: only where there are more may there be a dict.
        if data.count("{") > 1 and has_other_keys([*args, *kwargs.values()]):
            raise self._unfit(args, kwargs, ValueError("a key is no string"))
        return Call(data, self._described(args, kwargs))

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise WrongArguments unless these fit the signature."""
        if self.signature is None:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError:
            functions.check(self.function, args, kwargs)

    def canonical(self, data: str) -> str:
        """The same string for the same call, however its arguments were written."""
        path, _, args, kwargs = json.loads(data)
        if self.signature is None:
            return data
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return json.dumps([path, bound.arguments], sort_keys=True, default=repr)

    def _described(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Mirrors rq.utils.get_call_string."""
        parts = [_shown(value, place in self.secrets) for place, value in enumerate(args)]
        if kwargs:
            parts += sorted(
                f"{name}={_shown(value, masking.is_secret(name))}" for name, value in kwargs.items()
            )
        return f"{self.path}({', '.join(parts)})"

    def _unfit(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
    ) -> WrongArguments:
        for name, value in self._named(args, kwargs):
            if found := _culprit(name, value):
                where, what, instead = found
                return WrongArguments(
                    f"{self.path}: {where} cannot be sent as JSON: it is {what}. {instead}"
                )
        return WrongArguments(f"{self.path}: the arguments cannot be sent as JSON: {error}.")

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Each argument with its name."""
        parameters = self.signature.parameters.values() if self.signature else ()
        names = [parameter.name for parameter in parameters if parameter.kind in _POSITIONAL]
        names += [f"argument {place + 1}" for place in range(len(names), len(args))]
        return [*zip(names, args, strict=False), *kwargs.items()]


def target(function: Callable[..., object]) -> Target:
    """The function as one that workers can run.

    Raises NotImportable for a lambda, a function of `__main__` or one inside another; NotAllowed,
    UnknownFunction or BrokenModule where its path is not a worker's to import.
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
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        signature = None
    parameters = list(signature.parameters.values()) if signature else []
    needed = [p for p in parameters if p.default is p.empty]
    positional = sum(1 for p in parameters if p.kind in _POSITIONAL)
    fitting = range(len(needed), positional + 1)
    if any(p.kind not in _POSITIONAL for p in needed):
        fitting = range(0)
    secret = [(n, p) for n, p in enumerate(parameters) if masking.is_secret(p.name)]
    onward = [n for n, p in secret if p.kind == p.VAR_POSITIONAL]
    some = frozenset(n for n, p in secret if p.kind in _POSITIONAL)
    secrets = masking.Places(some, onward[0] if onward else None)
    head = f"[{_encode(path)}, null, "
    return Target(path, head, function, signature, fitting, secrets, most_bytes)


def refuse_unnamed(function: Any) -> None:
    """Refuse what a worker could not import by its name; raises NotImportable."""
    name = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    if isinstance(function, str):
        reason = "is a string; a function that is known by its path goes to enqueue.by_path"
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


def has_other_keys(values: Sequence[Any]) -> bool:
    """Whether there is a dict among them, at any depth, with a key that is no string."""
    left = [*values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                return True
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    return False


def _shown(value: Any, is_secret: bool = False) -> str:
    try:
        is_plain = type(value) in _PLAIN and not is_secret
        shown = repr(value if is_plain else masking.masked(value, is_secret_itself=is_secret))
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        return "…"
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."


def _culprit(where: str, value: Any) -> tuple[str, str, str] | None:
    """Where in `value` something stands that JSON cannot carry, what it is, and what to do."""
    is_sent = False
    try:
        json.dumps(value)
        is_sent = True
    except ValueError as error:
        if "Circular" in str(error):
            return where, "a list or dict that contains itself", "Pass a copy that does not."
    except RecursionError:
        return where, "nested too deeply", "Pass the path of a file."
    except TypeError:
        pass
    found = _culprit_inside(where, value)
    if found or is_sent:
        return found
    if isinstance(value, int):  # only its length can be the reason
        return where, "a number of more digits than JSON is read with", "Pass it as hex(…)."
    return where, _a(value), _INSTEAD.get(type(value).__name__, _ANYTHING_ELSE)


def _culprit_inside(where: str, value: Any) -> tuple[str, str, str] | None:
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                instead = "Keys are strings: pass its str(…)."
                return f"the key {_shown(key)} of {where}", _a(key), instead
            inner.append((f"{where}[{key!r}]", one))
    elif isinstance(value, list | tuple):
        inner = [(f"{where}[{index}]", one) for index, one in enumerate(value)]
    return next(filter(None, (_culprit(place, one) for place, one in inner)), None)


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeio' else 'a'} {kind}"
