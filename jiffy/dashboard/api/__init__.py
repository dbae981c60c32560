"""The HTTP API.  `routes.py` has its operations, `schemas.py` the types of requests and answers;
`openapi.py` makes routes and the OpenAPI document of both.

It takes tokens and knows no sessions, so no browser can be made to call it.
"""

from jiffy.dashboard.api import routes as routes
from jiffy.dashboard.api.openapi import blueprint as blueprint
