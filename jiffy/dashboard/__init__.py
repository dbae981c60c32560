"""The web app: our pages, rq-dashboard inside, the JSON API and the health check."""

from jiffy.errors import MissingExtra

try:
    from jiffy.dashboard.app import create_app as create_app
    from jiffy.dashboard.app import web_app as web_app
    from jiffy.dashboard.server import listen as listen
    from jiffy.dashboard.server import serve as serve
except ModuleNotFoundError as error:
    raise MissingExtra("dashboard", error.name) from None
