"""What each answer tells the browser: what the page may load and run, and to keep none of it."""

import secrets

from flask import Flask, Response, g, request, session

from jiffy.dashboard import auth

# rq-dashboard's own script reads this cookie and sends it back as a header.
_RQ_TOKEN_COOKIE = "_csrf_token"
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add(app: Flask) -> None:
    """Give every answer of `app` its headers; a page that sets one of them itself keeps its own."""
    app.after_request(_secure)
    app.jinja_env.globals["nonce"] = nonce


def _secure(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", _content_policy())
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    if not (request.endpoint or "").endswith("static"):
        headers["Cache-Control"] = "no-store"
    if request.blueprint == "rq_dashboard" and session.get("user"):
        response.set_cookie(_RQ_TOKEN_COOKIE, auth.token(), path="/rq", samesite="Strict",
                            secure=request.is_secure)  # fmt: skip
    return response


def _content_policy() -> str:
    """What a page may load and run.

    rq-dashboard's templates are compiled in the browser ('unsafe-eval'), and its inline scripts run
    by a number that no injected one can know.
    """
    own = "default-src 'none'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    own += "frame-ancestors 'none'; "
    if request.blueprint != "rq_dashboard":
        return own + "script-src 'self'; style-src 'self'; img-src 'self'"
    scripts = f"script-src 'self' 'nonce-{nonce()}' 'unsafe-eval'"
    return own + f"{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def nonce() -> str:
    """This response's number for its inline scripts."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(16)
    made: str = g.nonce
    return made
