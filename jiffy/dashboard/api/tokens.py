"""Who may call the API: programs that know a token.

It knows no sessions, so no browser can be made to call it.
"""

from typing import NoReturn

from flask import abort, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import NotFound, Unauthorized

from jiffy.dashboard import auth
from jiffy.dashboard.api import openapi
from jiffy.settings import settings


def require() -> None:
    """Refuse a request for the API that carries no token, or one that may only read."""
    if not auth.is_api():
        return
    may_do_all, may_read = settings().api_token, settings().api_read_token
    if may_do_all is None and may_read is None:
        abort(403, "The API is closed: set API_TOKEN.")
    if not _is(may_do_all):
        if not _is(may_read):
            _ask_for_one()
        if request.method not in auth.SAFE_METHODS:
            abort(403, "This token may only read; to change something, send that of API_TOKEN.")
    if isinstance(request.routing_exception, NotFound):
        paths = ", ".join(f"{one.method} {one.path}" for one in openapi.operations)
        abort(404, f"The API has no {request.path}. It has {paths}.")


def _is(expected: str | None) -> bool:
    given = request.authorization
    if expected is None or given is None or given.type != "bearer":
        return False
    return auth.same(given.token or "", expected)


def _ask_for_one() -> NoReturn:
    raise Unauthorized(
        "Send the header 'Authorization: Bearer …' with the value of API_TOKEN.",
        www_authenticate=WWWAuthenticate("bearer", {"realm": "Jiffy API"}),
    )
