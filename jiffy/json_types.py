"""JSON read strictly, and values converted to the types of annotations, by msgspec.

msgspec alone lets NaN, duplicate keys and keys that are not strings pass, ignores unknown keys of
dataclasses, and its errors lack the value that does not fit.
"""

import inspect
import json
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from itertools import chain, count, repeat
from typing import Any

import msgspec

from jiffy.errors import ValidationError, did_you_mean

MAX_DEPTH = 64
_MAX_DIGITS = 1000  # of a whole number: the time to read one grows with their square
_WORDS = {"str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false",
          "array": "a list", "object": "an object"}  # fmt: skip
_STRING = "a string without lone surrogates"
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(raw: bytes) -> Any:
    """The value of a JSON document in UTF-8, in time that is linear in its length.

    Raises ValueError for what two programs could understand differently.
    """
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


def not_json(value: Any, depth: int = MAX_DEPTH) -> ValidationError | None:
    """What of `value` JSON cannot carry unchanged; None if it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return ValidationError(value, "a finite number")
    if isinstance(value, str) and _SURROGATE.search(value):
        return ValidationError(value, _STRING)
    if isinstance(value, dict | list | tuple):
        if not depth:
            return ValidationError("…", f"nested at most {MAX_DEPTH} deep")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and (not isinstance(key, str) or not_json(key)):
                return ValidationError(key, _STRING, (str(key),), is_key=True)
            if error := not_json(inner, depth - 1):
                return error.below(key)
    return None


def convert(value: Any, kind: Any, *name: str) -> Any:
    """`value`, as `read` returns it, as the type `kind`.

    Raises ValidationError, below `name`; also for keys that `kind` does not have.
    """
    if error := _invalid(value, kind):
        raise error.below(*name)
    return msgspec.convert(value, kind)


def _invalid(value: Any, kind: Any) -> ValidationError | None:
    """The innermost part of `value` that does not fit; None if all of it does."""
    complaint = _complaint(value, kind)
    if not complaint and not _has_fields(kind):
        return None
    for key, inner, its_kind in _parts(value, kind):
        if error := _invalid(inner, its_kind):
            return error.below(key)
    known = _fields(kind)
    if known is not None and isinstance(value, dict):
        for key in [key for key in value if key not in known]:
            must = f"one of {', '.join(known)}{did_you_mean(key, known)}" if known else "left out"
            return ValidationError(key, must, (key,), is_key=True)
    if missing := re.fullmatch("Object missing required field `(.*)`", complaint):
        needed = (known or {})[missing[1]]
        return ValidationError(None, _must(_complaint(None, needed), needed), (missing[1],))
    return ValidationError(value, _must(complaint, kind)) if complaint else None


def _complaint(value: Any, kind: Any) -> str:
    """What msgspec says of a value that is no `kind`; "" of one that is."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as refusal:
        return re.sub(r" - at `.*`$", "", str(refusal), flags=re.DOTALL)
    return ""


def _must(complaint: str, kind: Any) -> str:
    """What a value of `kind` must be; a type may say it by Meta(extra={"must": …})."""
    members = _members(kind)
    for extra in (getattr(member, "extra", None) for member in members):
        if extra and "must" in extra:
            return str(extra["must"])
    if complaint.startswith("Invalid enum"):
        choices = (typing.get_args(one) or getattr(one, "__members__", {}) for one in members)
        return " or ".join(map(repr, chain.from_iterable(choices)))
    if "datetime" in complaint:
        return "a time with its zone, such as '2030-01-31T06:00:00Z'"
    expected = re.sub("^Expected (.*?)(, got .*)?$", r"\1", complaint)
    expected = expected.replace("Invalid ", "a valid ").replace(" | ", "` or `")
    return re.sub("`(.*?)`", lambda name: _WORDS.get(name[1], name[1]), expected) or "given"


def _members(kind: Any) -> list[Any]:
    """The types in a union, and what annotates them; any other type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType, typing.Annotated):
        return [member for one in typing.get_args(kind) for member in _members(one)]
    return [kind]


@cache
def _fields(kind: Any) -> dict[str, Any] | None:
    """The keys of an object with fields, and their types; None of any other."""
    for member in filter(inspect.isclass, _members(kind)):
        if issubclass(member, msgspec.Struct):
            return {field.encode_name: field.type for field in msgspec.structs.fields(member)}
        if is_dataclass(member):
            return typing.get_type_hints(member, include_extras=True)
    return None


@cache
def _has_fields(kind: Any) -> bool:
    return _fields(kind) is not None or any(map(_has_fields, typing.get_args(kind)))


def _parts(value: Any, kind: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(key, part, its type) of each part of `value` that has a type of its own."""
    for member in _members(kind):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if isinstance(value, dict) and (fields := _fields(member)):
            yield from ((key, value[key], fields[key]) for key in value if key in fields)
        elif isinstance(value, dict) and origin is dict:
            yield from ((key, inner, arguments[1]) for key, inner in value.items())
        elif isinstance(value, list) and origin in (list, set, frozenset, tuple):
            is_row = arguments[-1] not in (arguments[0], ...)
            yield from zip(count(), value, arguments if is_row else repeat(arguments[0]))
