"""A job's function: found by its path, and its arguments, converted by its annotations."""

import difflib
import importlib
import inspect
import json
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jiffy import json_types, log, rq_compat
from jiffy.errors import (
    OUTDATED,
    BrokenModule,
    NotAllowed,
    UnknownFunction,
    ValidationError,
    WrongArguments,
    did_you_mean,
    same,
)
from jiffy.json_types import Converter, converter, not_json
from jiffy.producer import masking
from jiffy.settings import settings

Function = Callable[..., Any]
Args = Sequence[Any]
Kwargs = Mapping[str, Any]

# The module of the engine's own jobs: workers run them, whatever JOBS_MODULES says, and no call
# from outside can name one.
OWN = "jiffy.control.bulk"
_Parameter = inspect.Parameter

POSITIONAL = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False,
          "none": None, "null": None}  # fmt: skip
_METHODS = (staticmethod, classmethod)
_MOST_LETTERS = 2000  # of a default or an annotation
# Why a path is not allowed, and what to do about it.
_MOVE_IT = "Move it there, or add its module to JOBS_MODULES."
_WRAP_IT = "Enqueue a public function of your own that calls it."
_CLASS = "is a class. Enqueue a function, or a static or class method of it."
_METHOD = (
    "is a method of an object, which no worker has. Enqueue a function that makes or loads the "
    "object, or a static or class method."
)


def find(path: str, modules: tuple[str, ...]) -> Function:
    """Import the function that `path` names, under one of `modules`: "jobs.images.resize".

    Also a static or class method: "jobs.orders.Order.close".  Raises UnknownFunction, NotAllowed,
    or BrokenModule where the module is there but fails as it is imported.
    """
    if not is_allowed(path, modules) and (near := _nearest(path, modules)):
        raise UnknownFunction(path, near)
    check_path(path, modules)
    found, names = _module_of(path)
    for name in names:
        owner, is_public = found, isinstance(found, types.ModuleType) or _made(found, name)
        found = getattr(owner, name, None) if is_public else None
        is_module = isinstance(found, types.ModuleType)
        home = getattr(found, "__name__" if is_module else "__module__", None)
        is_ours = isinstance(home, str) and is_allowed(home, modules)
        if (is_module or callable(found)) and not is_ours:
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
    """Import `name` and all that is in it; yield the name of each module.  Raises BrokenModule."""
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


class Parameter(NamedTuple):
    """A parameter of a function, and how its values are converted."""

    name: str = ""
    converter: Converter | None = None
    unfit: str = ""  # its annotation, where that cannot be converted: JSON's types arrive


class Plan(NamedTuple):
    """How a function's arguments and its result are converted, by its annotations."""

    signature: inspect.Signature | None
    positional: Sequence[Parameter] = ()
    rest: Parameter = Parameter()  # *args
    named: Mapping[str, Parameter] = MappingProxyType({})
    others: Parameter = Parameter()  # **kwargs
    returns: Converter | None = None

    @property
    def shown(self) -> inspect.Signature:
        """The signature, which can be written: a secret's default is masked, and "…" stands for a
        default or an annotation that fails as it is written.
        """
        signature = self.signature or inspect.Signature()
        given = [
            one.replace(default=_shown(one), annotation=_written(one.annotation))
            for one in signature.parameters.values()
        ]
        return signature.replace(
            parameters=given, return_annotation=_written(signature.return_annotation)
        )

    @property
    def converters(self) -> list[Converter]:
        parameters = (*self.positional, self.rest, *self.named.values(), self.others)
        return [one.converter for one in parameters if one.converter]

    def check(self, name: str, args: Args, kwargs: Kwargs) -> None:
        """Raise WrongArguments, with the reason, unless it, called `name`, can be called so."""
        if self.signature is None:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            reason = _reason(self.signature, args, kwargs) or f"cannot be called like that: {error}"
            raise WrongArguments(f"{name}() {reason}. It takes {name}{self.shown}.") from None

    def parameters(self, args: Args, kwargs: Kwargs) -> list[Parameter]:
        """That of each argument, positional ones first."""
        more = [self.rest] * (len(args) - len(self.positional))
        named = [self.named.get(name, self.others) for name in kwargs] if kwargs else []
        return [*self.positional[: len(args)], *more, *named]

    def named_values(self, args: Args, kwargs: Kwargs) -> list[tuple[str, Any, Parameter]]:
        """Each argument with its name and its parameter."""
        parameters = self.parameters(args, kwargs)
        names = [
            one.name if place < len(self.positional) else f"argument {place + 1}"
            for place, one in enumerate(parameters[: len(args)])
        ]
        values = [*args, *kwargs.values()]
        return [*zip([*names, *kwargs], values, parameters, strict=True)]

    def converted(
        self, how: Callable[[Converter, Any], Any], args: Args, kwargs: Kwargs
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, those with a converter converted.  Raises ValidationError."""
        done = []
        values = (*args, *kwargs.values())
        for place, one in enumerate(self.parameters(args, kwargs)):
            value = values[place]
            if one.converter:
                try:
                    value = how(one.converter, value)
                except ValidationError as error:
                    raise error.below(self.named_values(args, kwargs)[place][0]) from None
            done.append(value)
        count = len(args)
        return done[:count], dict(zip(kwargs, done[count:], strict=True))


@lru_cache(maxsize=4096)
def plan(function: Function) -> Plan:
    """How the arguments and the result of `function` are converted."""
    try:
        signature = inspect.signature(function)
    except Exception:  # noqa: BLE001 - some functions written in C have none, or an odd one
        return Plan(None)
    positional, named, either = [], {}, Plan(signature)
    for parameter in signature.parameters.values():
        made = _parameter(function, parameter)
        if parameter.kind in POSITIONAL:
            positional.append(made)
        if parameter.kind in (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY):
            named[parameter.name] = made
        if parameter.kind is _Parameter.VAR_POSITIONAL:
            either = either._replace(rest=made)
        if parameter.kind is _Parameter.VAR_KEYWORD:
            either = either._replace(others=made)
    given = signature.return_annotation
    returns = None if given is signature.empty else converter(_hint(function, given))
    return either._replace(positional=positional, named=named, returns=returns)


def _parameter(function: Function, parameter: inspect.Parameter) -> Parameter:
    if parameter.annotation is parameter.empty:
        return Parameter(parameter.name)
    hint = _hint(function, parameter.annotation)
    if hint is Any or hint is object:
        return Parameter(parameter.name)
    if parameter.default is None:
        hint = typing.Optional[hint]  # noqa: UP045 - it may be a string
    made = converter(hint)
    written = _written(parameter.annotation)
    unfit = written if isinstance(written, str) else inspect.formatannotation(written)
    return Parameter(parameter.name, made, "" if made else unfit)


def _hint(function: Function, annotation: Any) -> Any:
    """The annotation, where its names are known; else the string that it is."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    alone = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(alone, names, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - it may be any expression
        return annotation


@lru_cache(maxsize=4096)
def typed(function: Function) -> Function:
    """`function`, given what its annotations say in place of JSON's types, where that fits."""
    made = plan(function)
    if all(one.is_native for one in made.converters):
        return function

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            args, kwargs = made.converted(Converter.unpack, args, kwargs)  # type: ignore[assignment]
        except ValidationError as error:
            current = rq_compat.CURRENT_JOB.get()
            log.event(
                "job.unconverted", log.WARNING, job=current and current.id, func=path_of(function),
                reason=f"{error.where} must be {error.must}",  # not its value: perhaps a secret
            )  # fmt: skip
        return function(*args, **kwargs)

    return call


def pack_result(function: Function, value: Any, dumps: Callable[[Any], bytes]) -> bytes:
    """The result of `function` as JSON.  Raises TypeError for keys that would become strings."""
    returns = plan(function).returns
    if returns and not returns.is_native:
        with suppress(ValidationError):
            value = returns.pack(value)
    packed = dumps(value)
    if b"{" in packed and not json_types.is_unchanged(value, packed):
        error = not_json(value, 1000, strictly=True)
        if error and error.is_key:
            raise TypeError(f"{error.value!r} is no string; annotate the return as dict[int, …]")
    return packed


def arrived(function: Function, value: Any) -> Any:
    """A result as the annotation of `function` has it; as it is where it does not fit."""
    returns = plan(function).returns
    if returns and not returns.is_native:
        with suppress(ValidationError):
            return returns.unpack(value)
    return value


def _shown(parameter: inspect.Parameter) -> Any:
    """Its default, as it may be shown."""
    default = _written(parameter.default)
    is_none = default is parameter.empty or (isinstance(default, str) and not default)
    is_secret = masking.is_secret(parameter.name) and not is_none
    with suppress(RecursionError):
        shown = masking.masked(default, is_secret_itself=is_secret)
        # Of a kind of its own, such as a dataclass, only what is written can be looked at.
        written = "" if isinstance(shown, str) else repr(shown)
        return shown if masking.masked_text(written) == written else masking.Masked(masking.MASK)
    return _UNWRITTEN


_UNWRITTEN = masking.Masked("…")  # stands for what cannot be written


def _written(one: Any) -> Any:
    """A default or an annotation, if it can be written, and is not endless."""
    with suppress(Exception):  # it may be any object, with code of its own
        if len((one if isinstance(one, str) else repr(one)).encode()) <= _MOST_LETTERS:
            return one
    return _UNWRITTEN


def described(path: str) -> dict[str, Any]:
    """The function at `path`: its docstring, and its parameters as a JSON Schema."""
    function = find(path, settings().jobs_modules)
    made, definitions = plan(function), dict[str, Any]()
    signature = made.shown
    known = {one.name: one for one in (*made.positional, *made.named.values())}
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    schema["additionalProperties"] = False

    for name, parameter in signature.parameters.items():
        if parameter.kind is _Parameter.VAR_KEYWORD:
            schema["additionalProperties"] = _schema_of(made.others, definitions) or True
        elif parameter.kind is _Parameter.VAR_POSITIONAL:
            items = {"type": "array", "items": _schema_of(made.rest, definitions)}
            schema["properties"][name] = items | {"description": "More positional arguments."}
        else:
            schema["properties"][name] = _schema_of(known[name], definitions)
            if parameter.default is parameter.empty:
                schema["required"].append(name)
            elif type(parameter.default) is not masking.Masked:
                with suppress(Exception):  # as in `_written`
                    default = json_types.builtins(parameter.default)
                    if not json_types.not_json(default) and masking.masked(default) == default:
                        schema["properties"][name] |= {"default": default}
    if definitions:
        schema["$defs"] = definitions
    schema = _without_secrets(schema)
    return {
        "function": path,
        "signature": f"{function.__name__}{signature}",
        "description": doc(function),
        "positional": [one.name for one in made.positional],
        "parameters": schema,
    }


def _without_secrets(schema: Any, name: str = "") -> Any:
    """A JSON Schema without the defaults and examples that are secrets; None and "" are none."""
    if isinstance(schema, list):
        return [_without_secrets(one, name) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found, is_secret = dict[str, Any](), masking.is_secret(name)
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            found[key] = {one: _without_secrets(part, one) for one, part in value.items()}
        elif key == "prefixItems":  # of a named tuple, whose names it does not have
            found[key] = [_without_secrets(one, "secret") for one in value]
        elif key not in ("default", "examples"):
            found[key] = _without_secrets(value, name)
        elif value == "" or value == masking.masked(value, is_secret_itself=is_secret):
            found[key] = value
    return found


def doc(function: Function) -> str:
    """Its docstring; a lone surrogate, which no page could show, as an escape."""
    return (inspect.getdoc(function) or "").encode("utf-8", "backslashreplace").decode()


def _schema_of(one: Parameter, definitions: dict[str, Any]) -> Any:
    named: dict[str, Any] = {}
    with suppress(Exception):  # as in `_written`
        found = json_types.schema(one.converter.kind, named) if one.converter else {}
        if not json_types.not_json([found, named]):
            definitions.update(named)
            return found
    return {}


def all_paths(modules: tuple[str, ...]) -> Iterator[str]:
    """The paths of all public functions in and under `modules`; broken modules are passed over."""
    for name in modules:
        for module_name in _modules_in(name):
            with suppress(BrokenModule):
                yield from _paths_in(imported(module_name), module_name)


def split(function: Function, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A shell's words as positional and keyword arguments, still strings.

    `name=value` is a keyword argument, but a positional one where only `*args` could take it.
    """
    made = plan(function)
    takes_any_name = bool(made.others.name) or not made.rest.name
    args: list[str] = []
    kwargs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier() and (takes_any_name or name in made.named):
            kwargs[name] = value
        else:
            args.append(word)
    return args, kwargs


def from_strings(
    function: Function, args: Sequence[str], kwargs: Mapping[str, str]
) -> tuple[list[Any], dict[str, Any]]:
    """Read a shell's words by the function's annotations.

    One that does not fit remains a string, which enqueueing then refuses.
    """
    made, strings = plan(function), [*args, *kwargs.values()]
    made.check(function.__name__, args, kwargs)
    read = [*map(read_string, strings, made.parameters(args, kwargs))]
    args, kwargs = read[: len(args)], dict(zip(kwargs, read[len(args) :], strict=True))
    bound = made.signature.bind(*args, **kwargs) if made.signature else None
    return ([*bound.args], {**bound.kwargs}) if bound else (args, kwargs)


def read_string(string: str, parameter: Parameter) -> Any:
    """A string as a value of the parameter; one that does not fit remains a string."""
    if made := parameter.converter:
        return next(filter(made.fits, _readings(string, made)), string)
    if not re.search(r"\b(str|Path)\b", parameter.unfit):  # as `str | Path`: any string
        with suppress(ValueError, RecursionError):
            return json.loads(string)
    return string


def _readings(string: str, made: Converter) -> Iterator[Any]:
    if not made.fits(""):  # or else every string would do
        yield string
    for member in json_types.members(made.kind):
        yield from (
            one.value for one in getattr(member, "__members__", {}).values() if one.name == string
        )
    with suppress(KeyError):
        yield _WORDS[string.lower()]
    for read in (json.loads, int, float):
        with suppress(ValueError, RecursionError):
            yield read(string)


def _module_of(path: str) -> tuple[Any, list[str]]:
    """The module that `path` begins with, imported, and the names behind it."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        module = imported(name)
        if name in sys.modules:
            return module, parts[count:]
    return None, []


def _made(owner: Any, name: str) -> Any:
    """What the source of the class `owner` has by this name, if it is a function or a class."""
    made = inspect.getattr_static(owner, name, None) if isinstance(owner, type) else None
    return made if isinstance(made, (*_METHODS, types.FunctionType, type)) else None


def imported(name: str) -> types.ModuleType:
    """The module `name`, imported; an empty one if it does not exist.  Raises BrokenModule."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return types.ModuleType(name)
        raise BrokenModule(name, error) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything as it loads
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


def note_outdated(error: BaseException, path: str) -> None:
    """Let `error` say that the module of this function is older than its file, if it is."""
    while path := path.rpartition(".")[0]:
        if _outdated(path):
            error.add_note(f"{OUTDATED.format(path)}.")


def _stamp(module: types.ModuleType) -> tuple[int, int]:
    try:
        file = Path(str(module.__file__)).stat()
    except (AttributeError, OSError):  # a package without a file, or it is gone
        return 0, 0
    return file.st_mtime_ns, file.st_size


def _nearest(path: str, modules: tuple[str, ...]) -> str | None:
    paths = [*all_paths(modules)]
    ends = [one for one in paths if one.endswith(f".{path}")]
    return next(iter(ends or difflib.get_close_matches(path[:300], paths, 1, 0.75)), None)


def _paths_in(owner: types.ModuleType | type, path: str) -> Iterator[str]:
    kinds = _METHODS if isinstance(owner, type) else (types.FunctionType,)
    for name, member in list(vars(owner).items()):
        # By its type: to ask anything else, such as `flask.request`, may fail.
        if name.startswith("_") or not issubclass(type(member), (type, *kinds)):
            continue
        here = f"{path}.{name}"
        if f"{member.__module__}.{member.__qualname__}" == here:
            if isinstance(member, type):
                yield from _paths_in(member, here)
            else:
                yield here


def _modules_in(name: str) -> Iterator[str]:
    """It, and all below it, but for `__main__`, which is a program."""
    yield name
    for found in pkgutil.iter_modules(getattr(imported(name), "__path__", []), f"{name}."):
        if not found.ispkg and not found.name.endswith(".__main__"):
            yield found.name
        elif found.ispkg:
            with suppress(BrokenModule):  # a broken one hides no other
                yield from _modules_in(found.name)


def _reason(signature: inspect.Signature, args: Args, kwargs: Kwargs) -> str | None:
    names = list(signature.parameters)
    for name in kwargs:
        if name not in names:
            from jiffy.producer.options import TABLE  # which imports this module

            hint = did_you_mean(str(name), names)
            if not hint and (ours := same(str(name), TABLE)):
                hint = f" (options come first: enqueue.options({ours[0]}=…))"
            return f"has no argument {name!r}{hint}"
    if len(args) > len(names):
        return f"takes {len(names)} arguments, not {len(args)}"
    for name in names[: len(args)]:
        if name in kwargs:
            return f"was given the argument {name!r} twice"
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
    missing = [name for name in needed if name not in names[: len(args)] and name not in kwargs]
    return f"needs the argument {missing[0]!r}" if missing else None
