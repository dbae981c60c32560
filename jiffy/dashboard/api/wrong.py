"""What is wrong with what was asked for: which of many jobs, and a pointer to the field."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from flask import abort

from jiffy.dashboard import problems
from jiffy.errors import InvalidValue, JiffyError, did_you_mean

_MOST_LETTERS = 200  # of a key that is pointed to: a sentence is cut, a pointer cannot be


@contextmanager
def told_where(asked: Mapping[str, Any], place: int | None) -> Iterator[None]:
    """Let an error say which of many calls is wrong, and point to what of it."""
    try:
        yield
    except JiffyError as error:
        error = _in_json(error)
        way = [*([] if place is None else [str(place)]), *_way_to(error, asked)]
        where = "" if place is None else f"job {place + 1}: "
        abort(problems.of(error, where, pointer=_pointer(way)))


def unknown(
    what: str, name: str, known: Collection[str], otherwise: Mapping[str, str] | None = None
) -> InvalidValue:
    """The error for a name that is not known, with the nearest or what is called so `otherwise`."""
    near = did_you_mean((otherwise or {}).get(name, name), known)
    return InvalidValue(what, name, f"one of {', '.join(known)}{near}")


def _in_json(error: JiffyError) -> JiffyError:
    """The same, where Python's `in_` is `in`."""
    if not isinstance(error, InvalidValue):
        return error
    return InvalidValue(error.name.rstrip("_"), error.value, error.must.rstrip("_"))


def _way_to(error: JiffyError, asked: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that lead to what is wrong; none where it is not one field."""
    tries = asked.get("retry")
    ways: dict[str, tuple[str, ...]] = {}
    if isinstance(tries, dict):
        ways |= {f"retry.{key}": ("retry", key) for key in tries}
    ways |= {key: (key,) for key in asked}
    words = [getattr(error, "name", ""), getattr(error, "value", "")]
    found = [
        ways.get(word) for word in words if isinstance(word, str) and len(word) < _MOST_LETTERS
    ]
    return next(filter(None, (*found, _way_to_path(error, asked))), ())


def _way_to_path(error: JiffyError, asked: Mapping[str, Any]) -> tuple[str, ...]:
    """The same where a function cannot be found: the field that names it, or its module."""
    path = getattr(error, "path", "") or getattr(error, "module", "")
    for key in ("function", "on_success", "on_failure", "on_stopped"):
        if path and str(asked.get(key)).startswith(path):
            return (key,)
    return ()


def _pointer(way: Collection[str]) -> str:
    """A JSON Pointer as the fragment of an address (RFC 6901)."""
    return "#" + "".join("/" + quote(key.replace("~", "~0").replace("/", "~1")) for key in way)
