"""The HTTP API.  `routes.py` has its operations, `schemas.py` the types of requests and answers;
`openapi.py` makes routes and the OpenAPI document of both.  Here: who may call it.

It takes tokens and knows no sessions, so no browser can be made to call it.
"""

from flask import abort, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import NotFound, Unauthorized

from jiffy.dashboard import auth
from jiffy.dashboard.api import openapi
from jiffy.dashboard.api import routes as routes
from jiffy.settings import settings

blueprint = openapi.blueprint


@blueprint.before_app_request
def _require_token() -> None:
    """Refuse a request for the API that carries no token, or one that may only read."""
    if not auth.is_api():
        return
    tokens = [settings().api_token, settings().api_read_token]
    if tokens == [None, None]:
        abort(403, "The API is closed: set API_TOKEN.")
    given = request.authorization
    sent = (given.token if given and given.type == "bearer" else None) or ""
    may_do_all, may_read = (token is not None and auth.same(sent, token) for token in tokens)
    if not may_do_all and not may_read:
        raise Unauthorized(
            "Send the header 'Authorization: Bearer …' with the value of API_TOKEN.",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "Jiffy API"}),
        )
    if not may_do_all and request.method not in auth.SAFE_METHODS:
        abort(403, "This token may only read; to change something, send that of API_TOKEN.")
    if isinstance(request.routing_exception, NotFound):
        paths = ", ".join(f"{one.method} {one.path}" for one in openapi.operations)
        abort(404, f"The API has no {request.path}. It has {paths}.")
