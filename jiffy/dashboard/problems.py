"""What is answered when something is wrong: a calm page, or for the API problem details (RFC 9457).

Never a traceback: that goes to the log.
"""

import json
from http import HTTPStatus

from flask import Flask, Response, render_template
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from jiffy import connection
from jiffy.dashboard import auth
from jiffy.errors import (
    CallTooLarge,
    DuplicateJob,
    JiffyError,
    NotThisState,
    RedisAway,
    RedisFull,
    RedisRefused,
    UnknownEntry,
    UnknownJob,
    WorkerDeaf,
)
from jiffy.read import clip

_IN_OUR_WORDS = {
    404: "There is nothing at this address.",
    405: "This address cannot be used in this way; nothing was done.",
    413: "That is too much: a request may have 1 MB.",
    500: "Something went wrong on our side. The log of the web process says what.",
}

_STATUSES = {
    CallTooLarge: 413,
    DuplicateJob: 409,
    NotThisState: 409,
    RedisAway: 503,
    RedisFull: 503,
    RedisRefused: 503,
    UnknownEntry: 404,
    UnknownJob: 404,
    WorkerDeaf: 409,
}
_LATER = {"Retry-After": "2"}
_MOST_LETTERS = 2000  # a sentence shows the value that is wrong, which may be a megabyte


def show(app: Flask) -> None:
    """Answer every failure of `app` in words."""
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(JiffyError, of)
    app.register_error_handler(RedisError, _from_redis)


def of(error: JiffyError, where: str = "", **more: str) -> Response:
    """The answer that an error of ours is."""
    status = _STATUSES.get(type(error), 422)
    is_undone = status == 503 and not getattr(error, "doubt", "") and not getattr(error, "count", 0)
    # Who is told when to come back sends the same again, which could double what is there.
    return answer(status, f"{where}{error}", _LATER if is_undone else None, **more)


def answer(
    status: int, message: str, headers: dict[str, str] | None = None, **more: str
) -> Response:
    """The answer that says `message`, as JSON (with the fields `more`) or as a page."""
    title = HTTPStatus(status).phrase
    message = clip(message, _MOST_LETTERS)
    if auth.is_api():
        body = {"type": "about:blank", "title": title, "status": status, "detail": message, **more}
        text = f"{json.dumps(body)}\n"
        response = Response(text, status, mimetype="application/problem+json")
    else:
        page = render_template("message.html", title=title, message=message, status=status)
        response = Response(page, status)
    response.headers.update(headers or {})
    return response


def _from_http(error: HTTPException) -> Response:
    status = error.code or 500
    # Only what we wrote ourselves is worth reading; the library's texts are for its authors.
    ours = error.description if error.description != type(error).description else None
    kept = {
        name: value for name, value in error.get_headers() if name in ("Allow", "WWW-Authenticate")
    }
    return answer(status, ours or _IN_OUR_WORDS.get(status, error.description or error.name), kept)


def _from_redis(error: RedisError) -> Response:
    known = connection.explained(error)
    return answer(503, str(known or f"Redis refuses: {error}"), _LATER)
