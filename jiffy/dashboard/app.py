"""The web app, put together.  What it shows is in `pages/`, who may see it in `auth.py`."""

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, g, request, url_for

from jiffy import log, redis_io
from jiffy.control import read
from jiffy.dashboard import api, audit, auth, charts, frame, problems, rq
from jiffy.dashboard.pages import home, jobs, new, queues, schedule, system
from jiffy.dashboard.words import FILTERS
from jiffy.producer.enqueue import check_project
from jiffy.settings import PATH, settings

MOST_BODY_BYTES = 1024 * 1024
_MOST_ADDRESS = 100
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w-]{1,63}(\.[\w-]{1,63})*\.?)(:[0-9]{1,5})?", re.ASCII)
# A file has a tag, for which browsers ask as well; Werkzeug fails on a year of twenty digits.
_UNREAD = ("IF_MODIFIED_SINCE", "IF_RANGE", "RANGE")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def web_app(pages: Iterable[Blueprint] = ()) -> Flask:
    """The app with the user's own pages, for a server to run.

    Invalid settings end the process with one line and exit code 2.
    """
    with redis_io.in_one_line():
        log.setup(settings().log_level)
        check_project()
        return create_app(pages)


def create_app(pages: Iterable[Blueprint] = ()) -> Flask:
    """The app, for tests and other servers.  Raises MissingSetting without credentials.

    From here on the whole process shares WEB_CONNECTIONS to Redis.
    """
    redis_io.share_in_web()
    app = Flask("jiffy.dashboard")
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(FILTERS)
    app.jinja_env.globals.update(
        nonce=_nonce, known_states={*read.STATES, "stopped"}, spark_of=charts.spark
    )
    auth.guard(app)
    frame.surround(app)
    app.after_request(_add_headers)
    problems.show(app)
    rq.mount(app)
    ours = (home, jobs, new, queues, schedule, system, audit, auth, api)
    more = (jobs.failures_page, queues.workers_page, system.health_page)
    for blueprint in (*(one.page for one in ours), *more, *pages):
        app.register_blueprint(blueprint)
    app.wsgi_app = _behind_proxies(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _behind_proxies(wsgi_app: Any) -> Any:
    """Believe the headers of so many proxies, and serve every page below URL_PREFIX."""
    config = settings()
    hops = config.trusted_proxies
    if hops is None:
        hops = 1 if config.dyno else 0  # its router sets them, and nothing else can reach us

    def said(environ: Any, name: str) -> str:
        """What the outermost proxy that we believe says; most pass it on, and add nothing to it."""
        values: list[str] = environ.get(f"HTTP_X_FORWARDED_{name}", "").split(",")
        return values[-hops:][0].strip() if hops else ""

    def below(environ: Any, start_response: Any) -> Any:
        for name in _UNREAD:
            environ.pop(f"HTTP_{name}", None)
        environ["jiffy.peer"] = peer = environ.get("REMOTE_ADDR", "")
        # A client's own where fewer proxies have written: no more of it than an address has.
        environ["REMOTE_ADDR"] = said(environ, "FOR")[:_MOST_ADDRESS] or peer
        is_host, host = False, environ.get("HTTP_HOST", "localhost")
        with suppress(ValueError):  # no address in its brackets
            is_host = bool(_HOST.fullmatch(host)) and urlsplit(f"//{host}").port != 0
        if not is_host:  # no page can be made
            why = "The Host header has no name of a host.\n"
            return Response(why, 400, mimetype="text/plain")(environ, start_response)
        if said(environ, "PROTO") in ("http", "https"):
            environ["wsgi.url_scheme"] = said(environ, "PROTO")
        prefix = config.url_prefix or said(environ, "PREFIX") or environ["SCRIPT_NAME"]
        path, prefix = environ["PATH_INFO"], prefix.rstrip("/")
        # A client may have sent it through the proxy: no link or redirect leads to another site.
        environ["SCRIPT_NAME"] = prefix if PATH.fullmatch(prefix) else ""
        # Else the proxy has removed it.
        if config.url_prefix and (path == prefix or path.startswith(f"{prefix}/")):
            environ["PATH_INFO"] = path[len(prefix) :] or "/"
        return wsgi_app(environ, start_response)

    return below


def _add_headers(response: Response) -> Response:
    """What the page may load and run, and that no cache keeps it; a page's own headers stay."""
    policy = "default-src 'none'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    policy += f"frame-ancestors 'none'; script-src 'nonce-{_nonce()}'"
    # rq-dashboard's templates are compiled in the browser ('unsafe-eval'), and its inline scripts
    # run by a nonce that no injected one can know.
    if request.blueprint == "rq_dashboard":
        policy += " 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    else:
        policy += "; style-src 'self'; img-src 'self'"
    for name, value in {"Content-Security-Policy": policy, **_HEADERS}.items():
        response.headers.setdefault(name, value)
    is_file = response.status_code < 400 and request.endpoint in ("static", "rq_dashboard.static")
    if not is_file:
        response.headers["Cache-Control"] = "no-store"
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if response.location:  # it may hold any address that someone was led to
        response.location = auth.short(response.location, url_for("home.home"))
    return response


def _nonce() -> str:
    """A random string for the scripts of this response alone."""
    made: str = g.setdefault("nonce", secrets.token_urlsafe(16))
    return made
