"""The answers to failures: a calm page, or for the API problem details (RFC 9457).

Never a traceback: that goes to the log.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, g, render_template, request
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from jiffy import errors, redis_io
from jiffy.control.values import clip
from jiffy.dashboard import auth
from jiffy.errors import InvalidValue, JiffyError, ValidationError

_MESSAGES = {
    404: "There is no such page.",
    413: "The request is too large: at most 1 MB is read, or 16 kB to log in.",
    500: "An error on our side. The log of the web process has the details.",
}

STATUSES = {
    errors.CallTooLarge: 413,
    errors.DuplicateJob: 409,
    errors.NotThisState: 409,
    errors.RedisAway: 503,
    errors.RedisFull: 503,
    errors.RedisRefused: 503,
    errors.UnknownEntry: 404,
    errors.UnknownJob: 404,
    errors.WorkerDeaf: 409,
    errors.NoWorkers: 409,
}
LATER = {"Retry-After": "2"}
_MOST_LETTERS = 2000  # of a message, which shows the invalid value, perhaps a megabyte
_MOST_POINTER_LETTERS = 500  # it cannot be cut short


def show(app: Flask) -> None:
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(JiffyError, _from_ours)
    app.register_error_handler(RedisError, _from_redis)


@contextmanager
def in_item(index: int) -> Iterator[None]:
    """An error meanwhile is about this item of the list in the request's body, `g.body`."""
    g.index = index
    yield
    g.index = None


def answer(
    status: int, message: str, headers: dict[str, str] | None = None, **more: str
) -> Response:
    """The answer with this message, as JSON (with the fields `more`) or as a page."""
    title = HTTPStatus(status).phrase
    where = "" if g.get("index") is None else f"job {g.index + 1}: "
    message = clip(where + message, _MOST_LETTERS)
    if auth.is_api():
        body = {"type": "about:blank", "title": title, "status": status, "detail": message, **more}
        text = f"{json.dumps(body)}\n"
        response = Response(text, status, mimetype="application/problem+json")
    else:
        page = render_template("message.html", title=title, message=message, status=status)
        response = Response(page, status)
    response.headers.update(headers or {})
    return response


def _from_ours(error: JiffyError) -> Response:
    status = STATUSES.get(type(error), 422)
    if status != 503:
        return answer(status, str(error), None, **_pointer(error))
    # A client that is given a time to come back sends the same again, which could double jobs.
    is_undone = not getattr(error, "doubt", "") and not getattr(error, "count", 0)
    return answer(status, str(error), LATER if is_undone else None)


def _pointer(error: JiffyError) -> dict[str, str]:
    """A JSON Pointer (RFC 6901) to what is invalid in the body, if there is one."""
    value = g.get("body")
    if value is None:
        return {}
    index = g.get("index")
    path = _path(error, value if index is None else value[index])
    found = "#"
    for key in path if index is None else [index, *path]:
        try:
            value = value[key]
        except (LookupError, TypeError):  # it is missing
            break
        found += "/" + quote(str(key).replace("~", "~0").replace("/", "~1"))
    return {"pointer": found if len(found) < _MOST_POINTER_LETTERS else "#"}


def _path(error: JiffyError, sent: Any) -> Sequence[str | int]:
    """The keys in `sent` that lead to what the error is about."""
    if isinstance(error, ValidationError):
        return error.path
    if isinstance(error, InvalidValue):
        return [str(error.value)] if error.name == "option" else error.name.split(".")
    path = getattr(error, "path", "") or getattr(error, "module", "")
    callables = ("function", "on_success", "on_failure", "on_stopped")
    return [key for key in callables if path and str(sent.get(key)).startswith(path)][:1]


def _from_http(error: HTTPException) -> Response:
    status = error.code or 500
    # What we wrote ourselves; the library's descriptions are for its authors.
    ours = error.description if error.description != type(error).description else None
    kept = {name: value for name, value in error.get_headers()
            if name in ("Allow", "Retry-After", "WWW-Authenticate")}  # fmt: skip
    message = ours or _MESSAGES.get(status, error.description or error.name)
    if "Allow" in kept and not ours:
        message = f"{request.path} has no {request.method}, but {kept['Allow']}. Nothing was done."
    return answer(status, message, kept)


def _from_redis(error: RedisError) -> Response:
    redis_io.let_go(error)
    known = redis_io.explained(error)
    if known and request.endpoint in auth.PUBLIC:  # to a stranger without the URL, as by /healthz
        return answer(503, f"Redis cannot be used ({known.reason}). {known.remedy}", LATER)
    return answer(503, str(known or redis_io.refusal(error)), LATER)
