"""Reads what was sent, strictly: what two programs could understand differently is refused."""

import json
import math
from typing import Any, NoReturn

from flask import abort, request

from jiffy.read import is_deeper

MOST_DEPTH = 64
_MOST_DIGITS = 1000  # of a whole number: far more are slow to read, and Python refuses them


def read() -> Any:
    """The value that the body stands for; else the request ends with 400, 413 or 415."""
    if not request.is_json:
        abort(415, "Send JSON, with the header 'Content-Type: application/json'.")
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower().replace("-", "") != "utf8":
        abort(415, f"Send UTF-8, not {charset}: it is the only encoding of JSON.")
    try:
        return _value(_raw().decode())
    except UnicodeError:
        abort(400, "The body is not UTF-8.")
    except RecursionError:
        abort(400, _TOO_DEEP)
    except ValueError as error:
        abort(400, f"The body is not JSON: {error}.")


def _raw() -> bytes:
    """What was sent; of a body that does not tell its size, Flask gives as much as it may have."""
    raw = request.get_data()
    if len(raw) >= (request.max_content_length or math.inf):
        abort(413)
    return raw


_TOO_DEEP = f"The body is nested more than {MOST_DEPTH} deep."


def _value(text: str) -> Any:
    value = json.loads(
        text,
        parse_constant=_no_number,
        parse_float=_finite,
        parse_int=_countable,
        object_pairs_hook=_with_single_keys,
    )
    if "\\ud" in text.lower():  # half a character is no text: it could not be written anywhere
        json.dumps(value, ensure_ascii=False).encode()
    if is_deeper(value, MOST_DEPTH):
        raise RecursionError
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _no_number(text)
    return number


def _countable(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text):,} digits; {_MOST_DIGITS:,} are read at most")
    return int(text)


def _with_single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found
