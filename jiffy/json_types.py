"""JSON read strictly, and values converted to and from the types of annotations, by msgspec.

msgspec alone lets NaN, duplicate keys and keys that are not strings pass, ignores unknown keys of
dataclasses, does not look into ready-made objects, and its errors lack the value that does not fit.
Path, numpy's scalars and pydantic's models are added to its types; neither library is imported.
"""

import inspect
import json
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, time
from functools import cache
from itertools import chain, count, repeat
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as nodes

from jiffy.errors import ValidationError, did_you_mean

MAX_DEPTH = 64
_MAX_DIGITS = 1000  # of a whole number: the time to read one grows with their square
_WORDS = {"str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false",
          "array": "a list", "object": "an object", "decimal": "a decimal", "uuid": "a UUID",
          "date": "a date such as '2030-01-31'", "time": "a time such as '06:30:00'",
          "datetime": "a datetime such as '2030-01-31T06:30:00Z'", "base64": "bytes in base64",
          "duration": "a duration such as 'PT1H30M'", "path": "a path"}  # fmt: skip
_OF_JSON = "a number, a string, a list or a dict"
_STRING = "a string without lone surrogates"
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_BITS = 14_000  # of a whole number: Python reads and writes none of more than 4,300 digits
_SCHEMA_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number"}
# What JSON carries as it is; and what msgspec can make of a string that is a key.
_NATIVE = (
    nodes.AnyType, nodes.NoneType, nodes.BoolType, nodes.IntType, nodes.FloatType, nodes.StrType,
    nodes.ListType, nodes.DictType, nodes.LiteralType, nodes.UnionType, nodes.TypedDictType,
)  # fmt: skip
SCALARS: frozenset[type] = frozenset({int, float, str, bool, types.NoneType})
_KEYS = (
    nodes.AnyType, nodes.StrType, nodes.IntType, nodes.FloatType, nodes.LiteralType,
    nodes.EnumType, nodes.DateType, nodes.DateTimeType, nodes.TimeType, nodes.TimeDeltaType,
    nodes.UUIDType, nodes.DecimalType,
)  # fmt: skip


def read(raw: bytes) -> Any:
    """The value of a JSON document, in linear time.  Raises ValueError for what is ambiguous."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique_keys, parse_int=_short_int)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    if error := not_json(value):
        raise ValueError(str(error).rstrip("."))
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} appears twice")
    return found


def _short_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits; {_MAX_DIGITS:,} are read at most")
    return int(digits)


def not_json(
    value: Any, depth: int = MAX_DEPTH, *, strictly: bool = False
) -> ValidationError | None:
    """What of `value` JSON cannot carry unchanged; None if it can.

    `strictly`: also tuples and all other types that are not JSON's; lone surrogates pass.
    """
    if must := _not_scalar(value, strictly=strictly):
        return ValidationError(value, must)
    if isinstance(value, dict | list | tuple):
        if not depth:
            return ValidationError("…", f"nested at most {MAX_DEPTH} deep")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and (
                not isinstance(key, str) or _not_scalar(key, strictly=strictly)
            ):
                part = key if isinstance(key, str) else "…"
                return ValidationError(key, _STRING, (part,), is_key=True)
            if error := not_json(inner, depth - 1, strictly=strictly):
                return error.below(key)
    return None


def _not_scalar(value: Any, *, strictly: bool) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, str) and not strictly and _SURROGATE.search(value):
        return _STRING
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return "a number of at most 4,300 digits"
    is_json = isinstance(value, str | int | float | bool | None | list | dict)
    return _OF_JSON if strictly and not is_json and not _is_numpy(type(value)) else ""


def is_unchanged(value: Any, data: str | bytes | None = None) -> bool:
    """Whether what `encode` makes of `value`, or has made (`data`), is read as an equal value."""
    try:
        data = encode(value) if data is None else data
        try:
            return bool(msgspec.json.decode(data) == value)
        except msgspec.DecodeError:  # a lone surrogate
            return bool(json.loads(data) == value)
    except (TypeError, ValueError, RecursionError):
        return False


class Converter(NamedTuple):
    """Values of an annotation: as Python has them, and as JSON carries them."""

    kind: Any
    is_native: bool  # they are of JSON's types
    is_loose: bool  # it says nothing about a part of them
    has_sets: bool
    scalars: frozenset[type]  # types whose values all fit, and are sent as they are

    def pack(self, value: Any) -> Any:
        """`value` in JSON's types.  Raises ValidationError where it does not fit."""
        with suppress(msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            # What JSON brings back as it was is right, also inside.
            packed = value if self.is_native else builtins(value, is_sorted=self.has_sets)
            is_same = bool(_convert(packed, self.kind) == value)
            if is_same and (not self.is_loose or is_unchanged(packed)):
                return packed
        try:
            error = _invalid(value, self.kind, strictly=True)
            if error and _is_numpy(type(error.value)):
                value = _without_numpy(value)
                error = _invalid(value, self.kind, strictly=True)
        except RecursionError:
            error = ValidationError("…", "a value that does not contain itself")
        if error:
            raise error
        return value if self.is_native else builtins(value, is_sorted=self.has_sets)

    def unpack(self, value: Any) -> Any:
        """What was packed.  Raises ValidationError for what `pack` cannot have made."""
        return value if self.is_native else convert(value, self.kind)

    def fits(self, value: Any) -> bool:
        """Whether `value` is one of the annotation's, or stands for one in JSON."""
        return not _invalid(value, self.kind, strictly=True)


def converter(kind: Any) -> Converter | None:
    """None for an annotation that cannot be converted."""
    try:
        found = list(_nodes(nodes.type_info(kind), set()))
    except Exception:  # noqa: BLE001 - an annotation may be anything, and name what is not there
        return None
    custom = [node.cls for node in found if isinstance(node, nodes.CustomType)]
    keys = [node.key_type for node in found if isinstance(node, nodes.DictType)]
    if not all(map(_is_known, custom)) or not all(isinstance(key, _KEYS) for key in keys):
        return None
    is_native = (
        all(isinstance(node, (*_NATIVE, nodes.CustomType)) for node in found)
        and all(isinstance(key, nodes.StrType | nodes.AnyType) for key in keys)
        and all(one is object for one in custom)
    )
    has_sets = any(isinstance(node, nodes.SetType | nodes.FrozenSetType) for node in found)
    is_loose = object in custom or any(isinstance(node, nodes.AnyType) for node in found)
    alone = found[0].types if isinstance(found[0], nodes.UnionType) else found[:1]
    scalars = {one for one in SCALARS if is_native and nodes.type_info(one) in alone}
    return Converter(kind, is_native, is_loose, has_sets, frozenset(scalars))


def _nodes(node: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(node, nodes.Type | nodes.Field) and id(node) not in seen:
        seen.add(id(node))
        if isinstance(node, nodes.Type):
            yield node
        for name in node.__struct_fields__:
            inner = getattr(node, name)
            for one in inner if isinstance(inner, tuple) else (inner,):
                yield from _nodes(one, seen)


def builtins(value: Any, *, is_sorted: bool = False) -> Any:
    """`value` in JSON's types; `is_sorted`: equal sets become equal lists."""
    order: Any = "deterministic" if is_sorted else None
    return msgspec.to_builtins(value, str_keys=True, order=order, enc_hook=_packed)


def schema(kind: Any, definitions: dict[str, Any]) -> Any:
    """The JSON Schema of an annotation that has a converter; named types go to `definitions`."""

    def custom(one: type) -> dict[str, Any]:
        if hasattr(one, "model_json_schema"):
            found: dict[str, Any] = one.model_json_schema(ref_template="#/$defs/{model}")
            definitions.update(found.pop("$defs", {}))
            return found
        if _is_numpy(one):
            return {"type": _SCHEMA_TYPES[_python(one)]}
        return {"type": "string", "format": "path"} if issubclass(one, PurePath) else {}

    template = "#/$defs/{name}"
    [found], named = msgspec.json.schema_components(
        [kind], schema_hook=custom, ref_template=template
    )
    definitions.update(named)
    return found


def _is_known(kind: Any) -> bool:
    if kind is object or _is_numpy(kind) or hasattr(kind, "model_validate"):
        return True
    return isinstance(kind, type) and issubclass(kind, PurePath)


def _is_numpy(kind: Any) -> bool:
    """Whether it is the type of a number of numpy's, or its bool."""
    return getattr(kind, "__module__", "") == "numpy" and _python(kind) in (bool, int, float)


@cache
def _python(kind: Any) -> type | None:
    try:
        return type(kind(0).item())
    except Exception:  # noqa: BLE001 - an array, a date, or no type at all
        return None


def _packed(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    if _is_numpy(type(value)):
        return value.item()
    if isinstance(value, PurePath | str):
        return str(value)
    if isinstance(value, date | time):  # a kind of datetime, such as pandas has
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not of JSON's types")


def _numpy_only(value: Any) -> Any:
    if _is_numpy(type(value)):
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


# A list that contains itself ends in a RecursionError here.
encode = json.JSONEncoder(check_circular=False, allow_nan=False, default=_numpy_only).encode


def _unpacked(kind: Any, value: Any) -> Any:
    if hasattr(kind, "model_validate"):
        if not isinstance(value, kind):
            return kind.model_validate(value)
        found = kind.model_validate(_packed(value))
        for name, part in vars(value).items():
            if vars(found).get(name) != part:
                kept = "fields that JSON brings back as they were"
                raise ValueError(f"Expected {kept} ({name!r} would change)")
        return found
    if isinstance(value, kind):
        return value
    if issubclass(kind, PurePath):
        if isinstance(value, str):
            return kind(value)
        raise ValueError("Expected `path`")
    wanted = _python(kind)
    try:
        if type(value) is wanted or (wanted is float and type(value) is int):
            return kind(value)
    except OverflowError:
        pass
    raise ValueError(f"Expected `{wanted.__name__ if wanted else kind}`")


def _without_numpy(value: Any) -> Any:
    value = _opened(value)
    if isinstance(value, dict):
        return {_without_numpy(key): _without_numpy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [*map(_without_numpy, value)]
    return value.item() if _is_numpy(type(value)) else value


def convert(value: Any, kind: Any, *name: str) -> Any:
    """`value`, as `read` returns it, as `kind`.  Raises ValidationError, also for unknown keys."""
    try:
        found = _convert(value, kind)
        if not _has_fields(kind):
            return found
    except msgspec.ValidationError:
        pass
    if error := _invalid(value, kind):
        raise error.below(*name)
    _complete(found, kind)
    return found


def _complete(value: Any, kind: Any) -> None:
    """Give each dataclass in it what msgspec leaves to its class: else JSON and vars() lack it."""
    its_kind: Any = type(value)
    inner = _opened(value) if _has_fields(kind) else None
    if inner is not value and inner:
        kinds = _fields(its_kind) or {}
        for name, one in inner.items():
            if is_dataclass(value) and hasattr(value, "__dict__") and hasattr(its_kind, name):
                vars(value).setdefault(name, one)
            _complete(one, kinds.get(name))
    elif isinstance(inner, dict | list | tuple | set | frozenset):
        for one in inner.values() if isinstance(inner, dict) else inner:
            _complete(one, kind)


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, dec_hook=_unpacked, str_keys=True)
    except msgspec.ValidationError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:  # a list in a set; half a character
        raise msgspec.ValidationError(f"Expected what can be converted ({error})") from error


def _invalid(value: Any, kind: Any, *, strictly: bool = False) -> ValidationError | None:
    """The innermost part of `value` that does not fit; None if all of it does.

    `strictly`: what `kind` says nothing about must be what JSON carries unchanged.
    Each part is converted once or twice, however deep it stands.
    """
    if refusal := _refusal(value, kind):
        path = str(refusal).rpartition("`$")[-1].rstrip("`")
        return _refused(value, kind, path) or _named_refusal(value, kind, refusal)
    return _overlooked(value, kind, strictly=strictly)


def _overlooked(value: Any, kind: Any, *, strictly: bool) -> ValidationError | None:
    """What msgspec takes and does not fit: unknown keys, and parts of ready-made objects."""
    kind = _tagged(value, kind)
    if strictly and any(map(_says_nothing, members(kind))):
        return not_json(value, strictly=True)
    if not _has_fields(kind) and not (strictly and _is_loose(kind)):
        return None
    opened = _opened(value)
    for key, inner, its_kind in _parts(opened, kind):
        is_seen = opened is value and inner is not key
        look = _overlooked if is_seen else _invalid
        if error := look(inner, its_kind, strictly=strictly):
            return error.below(key)
    return _unknown_key(opened, kind)


def _refused(value: Any, kind: Any, path: str, at: int = 0) -> ValidationError | None:
    """The part that msgspec refuses, of all that stand where `path` leads from `at` on.

    It names a key of a dict `[...]`, so that may be several: no part of one is in another.
    """
    kind, is_here = _tagged(value, kind), True
    for key, inner, its_kind in _parts(value, kind):
        for step in {f".{key}", f"[{key}]", "[...]"}:
            if path.startswith(step, at) and not _says_nothing(its_kind):
                end = at + len(step)
                if error := _refused(inner, its_kind, path, end):
                    return error.below(key)
                is_here &= end == len(path)
    if is_here and (refusal := _refusal(value, kind)):
        return _unknown_key(_opened(value), kind) or _named_refusal(value, kind, refusal)
    return None


def _unknown_key(value: Any, kind: Any) -> ValidationError | None:
    known = _fields(kind)
    if known is not None and isinstance(value, dict):
        for key in [key for key in value if key not in known]:
            guess = did_you_mean(str(key), known)
            must = f"one of {', '.join(known)}{guess}" if known else "left out"
            return ValidationError(key, must, (key,), is_key=True)
    return None


def _named_refusal(value: Any, kind: Any, refusal: msgspec.ValidationError) -> ValidationError:
    if errors := getattr(refusal.__cause__, "errors", None):  # pydantic's
        first = errors()[0]
        must = first["msg"].removeprefix("Input should be ")
        return ValidationError(first["input"], must, first["loc"])
    if missing := re.match("Object missing required field `(.*?)`( - at|$)", str(refusal)):
        needed = (_fields(kind) or {})[missing[1]]
        return ValidationError(None, _must(_refusal(None, needed), needed), (missing[1],))
    must = _must(refusal, kind)
    if str(refusal).endswith("at `key` in `$`"):
        key = next(key for key in value if _refusal({key: value[key]}, kind))
        return ValidationError(key, must, (str(key),), is_key=True)
    return ValidationError(value, must)


def _refusal(value: Any, kind: Any) -> msgspec.ValidationError | None:
    try:
        _convert(value, kind)
    except msgspec.ValidationError as refusal:
        return refusal
    return None


def _must(refusal: msgspec.ValidationError | None, kind: Any) -> str:
    """What a value of `kind` must be; a type may say it by Meta(extra={"must": …})."""
    complaint = re.sub(r" - at .*$", "", str(refusal or ""), flags=re.DOTALL)
    found = members(kind)
    for member in found:
        if (extra := getattr(member, "extra", None)) and "must" in extra:
            return str(extra["must"])
        if getattr(member, "tz", None):
            return "a time with its zone, such as '2030-01-31T06:00:00Z'"
    choices = [_choices(member) for member in found if member is not types.NoneType]
    if choices and (all(choices) or complaint.startswith("Invalid enum")):
        return " or ".join(map(repr, chain.from_iterable(choices)))
    expected = re.sub("^Expected (.*?)(, got .*)?$", r"\1", complaint)
    expected = re.sub(r"^Invalid (RFC3339 encoded |ISO8601 )?(\w+).*", _named, expected)
    expected = expected.replace("int | float", "float").replace(" | ", "` or `")
    return re.sub("`(.*?)`", lambda name: _WORDS.get(name[1], name[1]), expected) or "given"


def _named(invalid: re.Match[str]) -> str:
    name = invalid[2].lower()
    return f"`{name}`" if name in _WORDS else f"a valid {name}"


def _choices(kind: Any) -> Sequence[Any]:
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)
    return [member.value for member in getattr(kind, "__members__", {}).values()]


def members(kind: Any) -> list[Any]:
    """The types in a union, and what annotates them; any other type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated):
        return [member for one in typing.get_args(kind) for member in members(one)]
    return [kind]


@cache
def _fields(kind: Any) -> dict[str, Any] | None:
    """The keys of an object with fields, and their types; None of any other."""
    for member in filter(inspect.isclass, members(kind)):
        if issubclass(member, msgspec.Struct):
            config = member.__struct_config__
            tag = {config.tag_field: type(config.tag)} if config.tag_field else {}
            fields = msgspec.structs.fields(member)
            return tag | {field.encode_name: field.type for field in fields}
        if is_dataclass(member):
            hints = typing.get_type_hints(member, include_extras=True)
            return {field.name: hints[field.name] for field in dataclass_fields(member)}
        if typing.is_typeddict(member):
            return typing.get_type_hints(member)
    return None


def _tagged(value: Any, kind: Any) -> Any:
    """Of a union of tagged structs the one that `value` is; any other type is itself."""
    for member in filter(inspect.isclass, members(kind)):
        if issubclass(member, msgspec.Struct) and (field := member.__struct_config__.tag_field):
            is_named = isinstance(value, dict) and value.get(field) == member.__struct_config__.tag
            if is_named or isinstance(value, member):
                return member
    return kind


def _opened(value: Any) -> Any:
    """The fields of an object that has some; any other value is itself."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(type(value))
        return {field.encode_name: getattr(value, field.name) for field in fields}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclass_fields(value)}
    return value


@cache
def _has_fields(kind: Any) -> bool:
    return _fields(kind) is not None or any(map(_has_fields, typing.get_args(kind)))


@cache
def _is_loose(kind: Any) -> bool:
    """Whether it says nothing about a part of its values: `list`, `dict[str, Any]`."""
    inner = typing.get_args(kind)
    is_bare = not inner and bool(_container(typing.get_origin(kind) or kind))
    return _says_nothing(kind) or is_bare or any(map(_is_loose, inner))


def _says_nothing(kind: Any) -> bool:
    return kind in (Any, object) or isinstance(kind, typing.TypeVar)


def _container(origin: Any) -> type | None:
    """Dict, list or tuple, for what JSON has as an object or a list."""
    if not isinstance(origin, type) or issubclass(origin, str | bytes):
        return None
    if issubclass(origin, Mapping):
        return dict
    return tuple if origin is tuple else list if issubclass(origin, Sequence | Set) else None


def _parts(value: Any, kind: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(key, part, its type) of each part of `value` that has a type of its own."""
    for member in members(kind):
        inner = typing.get_args(member)
        container = _container(typing.get_origin(member) or member)
        if isinstance(value, dict) and (fields := _fields(member)):
            yield from ((key, value[key], fields[key]) for key in value if key in fields)
        elif isinstance(value, dict) and container is dict:
            of_keys, of_values = inner or (Any, Any)
            yield from ((key, key, str) for key in value if _says_nothing(of_keys))
            yield from ((key, part, of_values) for key, part in value.items())
        elif isinstance(value, list | tuple | set | frozenset) and container in (list, tuple):
            is_row = container is tuple and inner and inner[-1] is not ...
            yield from zip(count(), value, inner if is_row else repeat((*inner, Any)[0]))
