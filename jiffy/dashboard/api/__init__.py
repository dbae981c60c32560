"""The HTTP API.  `routes.py` has its operations, `schemas.py` the types of requests and answers,
`openapi.py` makes routes and the OpenAPI document of both, `tokens.py` lets programs in."""

from jiffy.dashboard.api import routes as routes
from jiffy.dashboard.api.openapi import blueprint as blueprint
from jiffy.dashboard.api.tokens import require

blueprint.before_app_request(require)
