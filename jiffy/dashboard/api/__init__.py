"""The HTTP API.  `routes.py` has its operations, `schemas.py` the types of requests and answers;
`openapi.py` makes routes and the OpenAPI document of both.

It takes tokens and knows no sessions, so no browser can be made to call it.
"""

from flask import abort, request
from werkzeug.exceptions import NotFound

from jiffy.dashboard import auth
from jiffy.dashboard.api import openapi
from jiffy.dashboard.api import routes as routes

blueprint = openapi.blueprint


@blueprint.before_app_request
def _name_operations() -> None:
    """Say what there is, where the API has no such path."""
    if auth.is_api() and isinstance(request.routing_exception, NotFound):
        paths = ", ".join(f"{one.method} {one.path}" for one in openapi.operations)
        abort(404, f"The API has no {request.path}. It has {paths}.")
