"""What a value of JSON may be: how it is checked, what it must be in words, and its JSON Schema."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from jiffy import clock, entries
from jiffy.errors import InvalidValue
from jiffy.producer import retry

_LONGEST_NAME = 200
_MOST_TRIES = 1000


class Kind(NamedTuple):
    """`parse` raises ValueError or TypeError for what is none of it; its error says `must`."""

    parse: Callable[[Any], Any]
    must: str
    schema: dict[str, Any]

    def read(self, name: str, value: Any) -> Any:
        """The value, as Python wants it.  Raises InvalidValue."""
        try:
            return self.parse(value)
        except (TypeError, ValueError):
            raise InvalidValue(name, value, self.must) from None


def _of(kind: type) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if type(value) is not kind:  # True is an int, but nobody means 1 by it
            raise ValueError
        return value

    return parse


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= len(value) <= _LONGEST_NAME:
        raise ValueError
    return value


def _lasts(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return value


def _moment(value: Any) -> datetime:
    return clock.read(_name(value))


def _ids(value: Any) -> Any:
    return [_name(one) for one in value] if isinstance(value, list) else _name(value)


def _tries(value: Any) -> Any:
    if isinstance(value, dict):
        return retry.read("retry", value)
    if type(value) is not int or not 1 <= value <= _MOST_TRIES:
        raise ValueError
    return value


def _or_forever(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"const": -1}, *schema["anyOf"]]}


_TEXT = {"type": "string", "minLength": 1, "pattern": r"\S"}
_NAME = {**_TEXT, "maxLength": _LONGEST_NAME}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": _LONGEST_NAME}
_SPAN = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": clock.LONGEST_S},
        {
            "type": "string",
            "pattern": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|[smhdw])\s*)+)\s*$",
            "examples": ["90s", "5m", "1h30m"],
        },
    ]
}
_ERRORS = {"type": "string", "pattern": r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"}
_RETRY = {
    "type": "object",
    "required": ["max"],
    "additionalProperties": False,
    "properties": {
        "max": {"type": "integer", "minimum": 1, "maximum": _MOST_TRIES},
        "pause": _SPAN,
        "factor": {"type": "number", "minimum": 1, "maximum": _MOST_TRIES},
        "limit": _SPAN,
        "jitter": {"type": "boolean"},
        "on": {"anyOf": [_ERRORS, {"type": "array", "items": _ERRORS}]},
        "fatal": {"anyOf": [_ERRORS, {"type": "array", "items": _ERRORS}]},
    },
    "example": {"max": 5, "pause": "2s", "on": ["TimeoutError"]},
}
_LASTS = "seconds, or a text such as '90s', '5m' or '1h30m'"

TEXT = Kind(_of(str), "a text", _TEXT)
NOTE = Kind(_of(str), "a text", {**_TEXT, "maxLength": _LONGEST_NAME})
NAME = Kind(_name, f"a name of at most {_LONGEST_NAME} letters", _NAME)
PATH = Kind(_name, f"a path, such as 'jobs.numbers.add', of at most {_LONGEST_NAME} letters", _NAME)
LIST = Kind(_of(list), "a list", {"type": "array"})
OBJECT = Kind(_of(dict), "an object", {"type": "object"})
COUNT = Kind(
    _of(int),
    f"a whole number from 0 to {entries.MOST_SKIPPED}",
    {"type": "integer", "minimum": 0, "maximum": entries.MOST_SKIPPED},
)
YES_NO = Kind(_of(bool), "true or false", {"type": "boolean"})
SPAN = Kind(_lasts, _LASTS, _SPAN)
SPAN_OR_FOREVER = Kind(_lasts, _LASTS, _or_forever(_SPAN))
MOMENT = Kind(
    _moment,
    "a time with its zone, such as '2030-01-31T06:00:00Z'",
    {"type": "string", "format": "date-time"},
)
ID = Kind(_name, f"letters, digits, underscores and dashes, {_LONGEST_NAME} at most", _ID)
IDS = Kind(
    _ids,
    f"a job's id of at most {_LONGEST_NAME} letters, or a list of these",
    {"anyOf": [_ID, {"type": "array", "items": _ID}]},
)
BEGUN_OR_DONE = Kind(_name, "'begun' or 'done'", {"enum": ["begun", "done"]})
TRIES = Kind(
    _tries,
    f"how many times to try again, from 1 to {_MOST_TRIES}, or an object with 'max'",
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": _MOST_TRIES}, _RETRY]},
)
