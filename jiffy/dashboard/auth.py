"""Who may log in, and what a browser may be made to do.

Everything is closed but what PUBLIC names.  People log in with a form and carry a signed cookie;
programs send the API's token.  Nothing is changed by a GET, nor from another site's page.
"""

import hashlib
import hmac
import secrets
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, abort, current_app, redirect, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import clock, keys, redis_io
from jiffy.dev import redis_server
from jiffy.errors import MissingSetting
from jiffy.settings import LOOPBACK, MAKE_SECRET_KEY, Settings

PUBLIC = {"static", "login.form", "login.enter", "health.healthz"}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
SESSION_LASTS = timedelta(days=7)
# A person mistypes a few times; a machine that guesses gets 14,400 tries a day.
MOST_ATTEMPTS, ATTEMPTS_PER_S = 10, 60


@dataclass(frozen=True)
class Credentials:
    """Of the only user."""

    user: str
    password: str = field(repr=False)


class Attempts:
    """How many wrong passwords each address has sent in this minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = clock.monotonic()
        self._wrong: Counter[str] = Counter()

    def are_left(self, address: str) -> bool:
        with self._lock:
            if clock.monotonic() - self._since > ATTEMPTS_PER_S:
                self._since, self._wrong = clock.monotonic(), Counter()
            return self._wrong[address] < MOST_ATTEMPTS

    def note_wrong(self, address: str) -> None:
        with self._lock:
            self._wrong[address] += 1


def guard(app: Flask, config: Settings) -> None:
    """Require a login for every page of `app`, and check whatever changes something.

    Raises MissingSetting in production without a password or a key.
    """
    app.extensions["jiffy.credentials"] = _configured(config)
    app.extensions["jiffy.attempts"] = Attempts()
    app.config.update(
        SECRET_KEY=_secret_key(config),
        # Cookies are the same for every port: two checkouts on a machine must not share theirs.
        SESSION_COOKIE_NAME="__Host-jiffy" if config.is_production else f"jiffy-{config.port}",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.is_production,
        PERMANENT_SESSION_LIFETIME=SESSION_LASTS,
        # Otherwise a refresh under way during a logout would bring the session back.
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.config["READ_ONLY"] = config.read_only
    app.config["LOGIN"] = config.dashboard_login
    app.before_request(_require_change)
    app.before_request(_require_own_page)
    app.before_request(_require_login)
    app.jinja_env.globals["token"] = token


def _configured(config: Settings) -> Credentials:
    """The user and password of the settings; in development a password is made and printed."""
    if config.dashboard_password or not config.dashboard_login:
        return Credentials(config.dashboard_user, config.dashboard_password or "")
    if config.is_production:
        remedy = "Production needs one: set it, and DASHBOARD_USER if it is not to be 'admin'."
        raise MissingSetting("DASHBOARD_PASSWORD", remedy)
    made = Credentials(config.dashboard_user, secrets.token_urlsafe(9))
    host = "localhost" if config.host in ("127.0.0.1", "0.0.0.0") else config.host
    sys.stderr.write(
        f"Dashboard: http://{host}:{config.port}  user: {made.user}  password: {made.password}  "
        "(set DASHBOARD_PASSWORD to choose your own)\n"
    )
    return made


def _secret_key(config: Settings) -> str:
    if config.secret_key:
        return config.secret_key
    if config.is_production:
        remedy = "Production needs one, the same in every web process: set it to what "
        raise MissingSetting("SECRET_KEY", f"{remedy}{MAKE_SECRET_KEY} prints.")
    return redis_server.secret_key()


def same(given: str, expected: str) -> bool:
    """Whether both are equal, in a time that does not depend on where they differ."""
    one, other = (hashlib.sha256(each.encode("utf-8", "replace")) for each in (given, expected))
    return hmac.compare_digest(one.digest(), other.digest())


def matches(user: str, password: str) -> bool:
    who = _credentials()
    return same(f"{user}\0{password}", f"{who.user}\0{who.password}")


def token() -> str:
    """A random string that only our own pages can know; every form carries it."""
    made: str = session.setdefault("token", secrets.token_urlsafe(24))
    return made


def is_api() -> bool:
    """Whether the request is for programs, which send a token and have no session."""
    return request.path.startswith("/api/") or request.path == "/metrics"


def enter() -> None:
    """Start a session, with nothing left of the one before."""
    user = _credentials().user
    with redis_io.shared().pipeline() as pipe:
        pipe.hsetnx(keys.SESSIONS, user, secrets.token_urlsafe(16))
        pipe.hget(keys.SESSIONS, user)
        _, mark = pipe.execute()
    session.clear()
    session.permanent = True
    session.update(user=user, proof=_proof(mark))
    token()


def leave() -> None:
    """End all of this user's sessions, in every browser and for every web process."""
    redis_io.shared().hdel(keys.SESSIONS, _credentials().user)
    session.clear()


def is_logged_in() -> bool:
    """Whether the session is still valid; one that is not is deleted.

    Raises redis-py's errors while Redis does not answer: then no page is shown.
    """
    if not current_app.config["LOGIN"]:
        session.setdefault("user", _credentials().user)
        return True
    if "user" not in session:
        return False
    mark = redis_io.shared().hget(keys.SESSIONS, _credentials().user)
    if mark is None or not same(str(session.get("proof")), _proof(mark)):
        session.clear()
    return "user" in session


def _credentials() -> Credentials:
    who: Credentials = current_app.extensions["jiffy.credentials"]
    return who


def _proof(mark: Any) -> str:
    """What only a session has that began with the current password, after this user's last logout.

    It stands in a cookie; without SECRET_KEY, it cannot be used to guess passwords.
    """
    who, key = _credentials(), current_app.config["SECRET_KEY"]
    secret = mark + f"\0{who.user}\0{who.password}".encode("utf-8", "surrogateescape")
    return hmac.new(key.encode("utf-8", "surrogateescape"), secret, "sha256").hexdigest()


def safe_target(target: str) -> str:
    """Where to go after the login: a path of ours, never another site."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\"))
    return request.script_root + (target if is_ours and target.isprintable() else "/")


def _require_change() -> None:
    """Refuse every change where the app is read-only, and other hosts' names where it is open."""
    if not current_app.config["LOGIN"] and urlsplit(f"//{request.host}").hostname not in LOOPBACK:
        # Another site's name can be made to lead to this machine.
        abort(403, f"This dashboard needs no login, so it is shown at {LOOPBACK[0]} only.")
    is_change = request.method not in SAFE_METHODS and request.blueprint != "login"
    if current_app.config["READ_ONLY"] and is_change:
        abort(403, "This dashboard is read-only: nothing was changed.")


def _require_own_page() -> None:
    """Refuse a change that does not come from a page of ours."""
    if request.method in SAFE_METHODS or is_api():
        return
    if not _is_same_origin():
        abort(403, "This request came from another site's page, so nothing was changed.")
    given = request.headers.get("X-CSRFToken") or request.form.get("token", "")
    expected = session.get("token")
    if not expected:
        why = "Your browser sent no cookie: load the page again, and allow cookies."
        over_http = " In production the cookie is sent over https only."
        abort(403, why if request.is_secure else why + over_http)
    if not same(given, expected):
        abort(403, "This page has expired, so nothing was changed: load it again, then repeat.")


def _is_same_origin() -> bool:
    # A browser says it itself, and no page can forge it; but only over https and on localhost.
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin") or request.headers.get("Referer", "")
    # Not the scheme: a proxy in front may speak https where we speak http.
    return urlsplit(origin).netloc == request.host


def _require_login() -> Response | None:
    if request.endpoint in PUBLIC or is_api() or is_logged_in():
        return None
    if request.headers.get("X-Requested-With"):  # a script, which cannot fill in a form
        abort(401, "You are logged out: log in again.")
    if request.method not in SAFE_METHODS:
        return redirect(url_for("login.form"))
    return redirect(url_for("login.form", next=request.full_path.rstrip("?")))
