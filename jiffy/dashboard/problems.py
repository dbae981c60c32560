"""What is answered when something is wrong: a calm page, or for the API problem details (RFC 9457).

Never a traceback: that goes to the log.
"""

import json
from http import HTTPStatus

from flask import Flask, Response, render_template
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from werkzeug.exceptions import HTTPException

from jiffy import connection
from jiffy.dashboard import access
from jiffy.errors import CallTooLarge, DuplicateJob, JiffyError, RedisAway, RedisFull

_IN_OUR_WORDS = {
    404: "There is nothing at this address.",
    405: "This address cannot be used in this way; nothing was done.",
    413: "That is too much: a request may have 1 MB.",
    500: "Something went wrong on our side. The log of the web process says what.",
}

_LATER = {"Retry-After": "2"}


def show(app: Flask) -> None:
    """Answer every failure of `app` in words."""
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(JiffyError, _from_jiffy)
    app.register_error_handler(RedisError, _from_redis)


def answer(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """The answer that says `message`, as JSON or as a page."""
    title = HTTPStatus(status).phrase
    if access.is_api():
        body = {"type": "about:blank", "title": title, "status": status, "detail": message}
        response = Response(json.dumps(body), status, mimetype="application/problem+json")
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


def _from_jiffy(error: JiffyError) -> Response:
    statuses = {RedisAway: 503, RedisFull: 503, DuplicateJob: 409, CallTooLarge: 413}
    status = statuses.get(type(error), 422)
    return answer(status, str(error), _LATER if status == 503 else None)


def _from_redis(error: RedisError) -> Response:
    if isinstance(error, RedisConnectionError | RedisTimeoutError):
        return answer(503, str(connection.away(error)), _LATER)
    return answer(503, f"Redis refuses: {error}", _LATER)
