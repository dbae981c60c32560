"""Who may see and do what: decided here, for every request, before any view runs.

People log in with a form and carry a signed cookie, or a proxy says who they are; programs send a
token.  Everything is closed but what PUBLIC names, and only operators change anything: never by a
GET, nor from another site's page.

Attempts to log in are counted in Redis, for all web processes together, and slowed down, but no
user is ever locked out: pauses grow by user and address, so guesses from elsewhere delay no login
from here.
"""

import hashlib
import hmac
import re
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Flask,
    abort,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSessionInterface
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized
from werkzeug.security import check_password_hash
from werkzeug.wrappers import Response

from jiffy import keys, log, redis_io
from jiffy.control import values
from jiffy.dashboard import audit
from jiffy.dev import redis_server
from jiffy.errors import MissingSetting
from jiffy.settings import LOOPBACK, MAKE_SECRET_KEY, PASSWORD_HASH, USER_NAME, User, settings

PUBLIC = {"static", "login.form", "login.enter", "health.healthz"}
_MOST_LOGIN_BYTES, _MOST_URL = 16 * 1024, 2000
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
SESSION_LASTS = timedelta(days=7)
_WITH_PORT = re.compile(r"(?:\[(.*)\]|([0-9.]+))(?::[0-9]+)?")
MOST_AT_ONCE = 6  # of people; the server has more threads, and a browser sends no more
STRANGERS_AT_ONCE = 3  # who try to log in, all together: their passwords are checked one by one
# Whose requests are in progress: of people, and of programs, which have threads of their own.
_people, _programs, _counting = Counter[str](), Counter[str](), threading.Condition()
# Programs ask often, and quickly: one that finds all six in progress mostly gets the next one.
_PATIENCE_S = 0.03
# A hash takes 32 MB: not one for each thread of a small dyno.
_hashing = threading.Lock()
KEPT_MS = 3_600_000  # a count of attempts, after the last pause
FIRST_PAUSE_MS = 1000
# Tries before the first pause, which doubles with each, and the longest pause (ms): by a
# user from an address, from an address, and by a user, who never waits for others' attempts.
_LIMITS = (5, 900_000, 20, 60_000, 1, 0)
# By a user within an hour; then each address has one try before its first pause.
ATTACK = 100

page = Blueprint("login", __name__)


class Who(NamedTuple):
    """Who sends a request; "header" and "open" need no login, so cannot log out."""

    name: str
    role: str
    by: str  # "session", "header", "token" or "open"


class _Sessions(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) or request.is_secure


def guard(app: Flask) -> None:
    """Decide about every request to `app`.

    Raises MissingSetting in production without anyone who could log in, or without a key.
    """
    config = settings()
    app.extensions["jiffy.users"] = {user.name: user for user in _users()}
    if config.is_production and not config.secret_key:
        remedy = "Production needs one, the same in every web process: set it to what "
        raise MissingSetting("SECRET_KEY", f"{remedy}{MAKE_SECRET_KEY} prints.")
    app.session_interface = _Sessions()
    app.config.update(
        SECRET_KEY=config.secret_key or redis_server.secret_key(),
        # Cookies are the same for every port: two checkouts on a machine must not share theirs,
        # nor two dashboards of one host.
        SESSION_COOKIE_NAME=f"__Host-jiffy{config.url_prefix.replace('/', '-')}"
        if config.is_production
        else f"jiffy-{config.port}",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.is_production,
        PERMANENT_SESSION_LIFETIME=SESSION_LASTS,
        # Otherwise a refresh under way during a logout would bring the session back.
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.before_request(_admit)
    app.after_request(audit.end)
    app.teardown_request(_end_turn)
    app.jinja_env.globals["token"] = token


def _users() -> tuple[User, ...]:
    """Those of the settings; in development, if there are none, one whose password is printed."""
    config = settings()
    the_one = User(config.dashboard_user, "operator", config.dashboard_password or "")
    if the_one.secret or not config.dashboard_login:
        return (*config.dashboard_users, the_one)
    if config.dashboard_users:
        return config.dashboard_users
    if config.is_production:
        remedy = "Production needs one, and DASHBOARD_USER if it is not to be 'admin'; or set "
        remedy += "DASHBOARD_USERS."
        raise MissingSetting("DASHBOARD_PASSWORD", remedy)
    made = the_one._replace(secret=secrets.token_urlsafe(9))
    host = "localhost" if config.host in ("127.0.0.1", "0.0.0.0") else config.host
    sys.stderr.write(
        f"Dashboard: http://{host}:{config.port}  user: {made.name}  password: {made.secret}  "
        "(set DASHBOARD_PASSWORD to choose your own)\n"
    )
    return (made,)


def _known_users() -> dict[str, User]:
    found: dict[str, User] = current_app.extensions["jiffy.users"]
    return found


# The decision


def _admit() -> Response | None:
    """Answer for a request that is not allowed; all others go on, changes on record."""
    _require_own_host()
    is_change = request.method not in SAFE_METHODS
    is_login = request.endpoint in ("login.enter", "login.leave")
    if is_login:
        request.max_content_length = _MOST_LOGIN_BYTES
    if request.endpoint not in PUBLIC:
        g.who = _client() if is_api() else person()
        if g.who is None:
            if request.headers.get("X-Requested-With"):  # a script, which cannot fill in a form
                abort(401, "You are logged out: log in again.")
            target = None if is_change else request.full_path.rstrip("?")
            asks = url_for("login.form", next=target)
            return redirect(short(asks, url_for("login.form")))
        if is_change and not is_login:
            _require_operator(g.who)
        _take_turn_of(g.who)
    # Last, since it reads the form: a large one takes a second, which only operators may cost.
    if is_change and not is_api():
        _require_own_page()
    if is_change and request.endpoint and not is_login:
        audit.begin(g.who.name)
    return None


def _take_turn_of(who: Who) -> None:
    why, key = f"of {who.name} are in progress already.", f"{who.by} {who.name}"
    if who.by != "token":
        _take_turn(key, f"{why} Close other tabs.")
    elif who.role == "viewer":
        _take_turn(key, f"{why} Try again.", _PATIENCE_S)


def _take_turn(name: str, why: str, patience_s: float = 0) -> None:
    """Refuse more requests of one person at a time than leave threads to the others.

    Those whose requests are in progress share them: else two of them could take all threads.
    """
    at_once = _programs if is_api() else _people

    def is_ones_turn() -> bool:
        most = MOST_AT_ONCE if name else STRANGERS_AT_ONCE
        share = max(1, most // len({*at_once, name}))
        return at_once[name] < share and at_once.total() <= MOST_AT_ONCE

    with _counting:
        if not _counting.wait_for(is_ones_turn, patience_s):
            why = why if at_once[name] else "are in progress already. Try again."
            raise TooManyRequests(f"Too many requests {why}", retry_after=2)
        at_once[name] += 1
    g.turn_of = at_once, name


def _end_turn(_: BaseException | None) -> None:
    if turn := g.pop("turn_of", None):
        at_once, name = turn
        with _counting:
            at_once[name] -= 1
            if not at_once[name]:
                del at_once[name]
            _counting.notify_all()


@contextmanager
def without_turn() -> Iterator[None]:
    """Others may have this request's turn while it only waits."""
    _end_turn(None)
    yield
    _take_turn_of(g.who)


def _require_operator(who: Who) -> None:
    if settings().read_only:
        abort(403, "This dashboard is read-only: nothing was changed.")
    if who.role != "operator":
        log.event("change.refused", who=who.name, what=request.endpoint)
        if who.by == "token":
            why = "This token may only read; to change something, send that of API_TOKEN."
        else:
            why = f"{who.name} is a viewer, so nothing was changed: ask an operator."
        abort(403, why)


def _require_own_host() -> None:
    """Refuse names that are not ours: another site's name can be made to lead to this machine."""
    config = settings()
    hosts = config.allowed_hosts
    # Without a login the name alone protects, so behind a proxy too.
    is_behind = config.trusted_proxies and config.dashboard_login
    if config.is_on_loopback and not (hosts or config.is_production or is_behind):
        hosts = LOOPBACK
    host = urlsplit(f"//{_own_host()}").hostname
    if hosts and host not in hosts and request.endpoint != "health.healthz":
        abort(403, f"This dashboard is not at {host}: add the name to ALLOWED_HOSTS.")


def _own_host() -> str:
    """As the client writes it; `request.host` is empty if the name has an underscore."""
    return request.host or request.headers.get("Host", "")


def own_url(path: str) -> str:
    """The whole URL of a path of ours."""
    return f"{request.scheme}://{_own_host()}{path}"


def short(url: str, otherwise: str) -> str:
    """Where to go next; `otherwise` where `url` is long: nginx reads 4 kB of headers.  In place of
    more it answers 502, and of several web processes it asks this one nothing more for 10 s.
    """
    return url if len(url) <= _MOST_URL else otherwise


def is_api() -> bool:
    """Whether the request is for programs, which send a token and have no session."""
    return request.path.startswith("/api/") or request.path == "/metrics"


def role_of(authorization: str) -> str:
    """Which role the token in this header gives; "" for none."""
    # Not `request.authorization`, which fails on odd values.
    scheme, _, sent = authorization.partition(" ")
    tokens = {"operator": settings().api_token, "viewer": settings().api_read_token}
    for role, expected in tokens.items():
        if expected is not None and scheme.lower() == "bearer" and same(sent.strip(), expected):
            return role
    return ""


def _client() -> Who:
    """The program that sends this request for the API."""
    if not (settings().api_token or settings().api_read_token):
        abort(403, "The API is closed: set API_TOKEN.")
    role = role_of(request.headers.get("Authorization", ""))
    if role:
        return Who("API_TOKEN" if role == "operator" else "API_READ_TOKEN", role, "token")
    raise Unauthorized(
        "Send the header 'Authorization: Bearer …' with the value of API_TOKEN.",
        www_authenticate=WWWAuthenticate("bearer", {"realm": "Jiffy API"}),
    )


def person() -> Who | None:
    """Who sends this request with a browser; a session that is not valid any more is deleted.

    Raises redis-py's errors while Redis does not answer: then no page is shown.
    """
    # Refuse pages that another site's page loads unseen: how long one takes tells what is there.
    # A link from there is a visit.  Browsers say so over https and on localhost.
    site, use = (request.headers.get(f"Sec-Fetch-{name}") for name in ("Site", "Dest"))
    # A sibling's speculation rules look like a visit, and carry the cookie, but for this header.
    is_early = "prefetch" in request.headers.get("Sec-Purpose", "")
    if is_early or (site in ("cross-site", "same-site") and use != "document"):
        abort(403, "Another site's page may lead here, but not load this page.")
    config = settings()
    name = config.auth_header and request.headers.get(config.auth_header)
    if not config.dashboard_login or name:
        who = _from_proxy(name) if name else _from_here()
        if session.get("user") != who.name:  # else each answer would set the cookie
            session["user"] = who.name
        return who
    user = _known_users().get(str(session.get("user")))
    mark = values.answer(redis_io.shared().hget, keys.SESSIONS, user.name) if user else None
    if user and mark is not None and same(str(session.get("proof")), _proof(user, mark)):
        return Who(user.name, user.role, "session")
    session.pop("user", None)
    session.pop("proof", None)
    return None


def _from_here() -> Who:
    """Who needs no login: anyone at this machine, or behind a proxy here."""
    peer = ip(request.environ["jiffy.peer"])
    if peer and not peer.is_loopback:  # another WSGI server does not listen at HOST
        abort(403, "Without a login, this dashboard is for its own machine alone.")
    return Who(settings().dashboard_user, "operator", "open")


def _from_proxy(name: str) -> Who:
    """Who the proxy in front says it is."""
    peer = ip(request.environ["jiffy.peer"])
    # Not DASHBOARD_USER: someone called "admin" there would be an operator here.
    users = {user.name: user for user in settings().dashboard_users}
    user = users.get(name) or users.get("*")
    if peer is None or peer.is_global:  # not through the proxy, which is near
        audit.refused("", "not from a proxy")
        abort(403, f"{settings().auth_header} is only accepted from a proxy in a private network.")
    if user is None or not USER_NAME.fullmatch(name):
        audit.refused("", "an unknown user")
        abort(403, "You are not one of DASHBOARD_USERS: ask an operator to add you.")
    return Who(name, user.role, "header")


def ip(written: str | None) -> IPv4Address | IPv6Address | None:
    """An address; one of IPv4 in whichever way it is written.  None for what is none.

    Some gateways write a port behind it: 192.0.2.7:5123, [2001:db8::7]:5123.
    """
    parts = _WITH_PORT.fullmatch(written or "")
    try:
        found = ip_address((parts[1] or parts[2]) if parts else written or "")
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _require_own_page() -> None:
    """Refuse a change that does not come from a page of ours."""
    # A browser says it itself, and no page can forge it; but only over https and on localhost.
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin") or request.headers.get("Referer", "")
    # Not the scheme: a proxy in front may speak https where we speak http.
    host = origin.partition("://")[2].partition("/")[0]
    is_ours = bool(host) and host == _own_host() if site is None else site == "same-origin"
    if not is_ours:
        abort(403, "This request came from another site's page, so nothing was changed.")
    given = request.headers.get("X-CSRFToken") or request.form.get("token", "")
    expected = session.get("token")
    if not expected:
        why = "Your browser sent no cookie: load the page again, and allow cookies."
        over_http = " In production the cookie is sent over https only."
        abort(403, why if request.is_secure else why + over_http)
    if not same(given, expected):
        abort(403, "This page has expired, so nothing was changed: load it again, then repeat.")


# Passwords, sessions and tokens


def same(given: str, expected: str) -> bool:
    """Whether both are equal, in a time that does not depend on where they differ."""
    one, other = (each.encode("utf-8", "surrogatepass") for each in (given, expected))
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _matching(name: str, password: str) -> User | None:
    """The user with this password; an unknown name takes as long as a known one."""
    user = _known_users().get(name)
    secret = user.secret if user else ""
    hashes = [one.secret for one in _known_users().values() if PASSWORD_HASH.fullmatch(one.secret)]
    is_right = bool(secret) and same(password, secret) and secret not in hashes
    if hashes:
        tried = secret if secret in hashes else hashes[0]
        with _hashing:
            is_its = check_password_hash(tried.replace("/", "$"), password)
        is_right = is_its if tried == secret else is_right
    return user if is_right else None


def token() -> str:
    """A random string that only our own pages can know; every form carries it."""
    made: str = session.setdefault("token", secrets.token_urlsafe(24))
    return made


@page.get("/login")
def form() -> str | Response:
    g.who = person()
    if g.who:
        return redirect(_target())
    return render_template("login.html")


@page.post("/login")
def enter() -> Response:
    """Start a session, with nothing left of the one before."""
    name, redis = request.form.get("user", ""), redis_io.shared()
    counts = _counts(name)
    is_known = len(counts) == 1  # where this user has logged in before
    limits = [KEPT_MS, ATTACK, FIRST_PAUSE_MS, *_LIMITS]
    # Who must wait takes no one's turn.
    if not (wait_ms := redis_io.run_script(redis, "login", counts, [*limits, 0])):
        _take_turn(
            f"session {name}" if is_known else "", "to log in are in progress already. Try again."
        )
        wait_ms = redis_io.run_script(redis, "login", counts, [*limits, 1])
    if wait_ms:
        wait_s = -(-wait_ms // 1000)
        answer = _again(f"Too many wrong passwords. Try again in {wait_s} s.", 429)
        answer.headers["Retry-After"] = str(wait_s)
        return answer
    user = _matching(name, request.form.get("password", ""))
    if user is None:
        log.event("login.refused", address=request.remote_addr)
        # Not what is no user's name, such as a password typed in the wrong field.
        audit.refused(name if name in _known_users() else "", "password")
        return _again("That user and password do not match.", 401)
    audit.login(user.name, "logged in")
    with redis.pipeline() as pipe:
        pipe.delete(counts[0])
        for count in counts[1:]:
            pipe.decr(count)
        pipe.hsetnx(keys.SESSIONS, user.name, secrets.token_urlsafe(16))
        pipe.hget(keys.SESSIONS, user.name)
        mark = pipe.execute()[-1]
    _clear(browser=[user.name, secrets.token_urlsafe(16)])
    session.update(user=user.name, proof=_proof(user, mark))
    token()
    return redirect(_target())


@page.post("/logout")
def leave() -> Response:
    """End all of this user's sessions, in every browser and for every web process."""
    if g.who.by == "session":  # the proxy may know someone by the same name
        audit.login(g.who.name, "logged out")
        redis_io.shared().hdel(keys.SESSIONS, g.who.name)
    _clear(session.get("browser"))
    return redirect(url_for("login.form"))


def _clear(browser: Any) -> None:
    """Keep only what identifies this browser: others' wrong passwords do not slow it down."""
    session.clear()
    session.permanent = True
    session["browser"] = browser


def _again(message: str, status: int) -> Response:
    user = request.form.get("user", "")
    return make_response(render_template("login.html", message=message, user=user), status)


def _target() -> str:
    """Where to go after the login: a path of ours, never another site."""
    target = request.args.get("next", "/")
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\"))
    return request.script_root + (target if is_ours and target.isprintable() else "/")


def _counts(name: str) -> list[str]:
    """The keys of the counts of attempts that this one belongs to."""
    found = ip(request.remote_addr)
    # Of IPv6 the network, since anyone has 2**64 addresses there.
    address = str(found)
    if isinstance(found, IPv6Address):
        address = str(ip_network((found, 64), strict=False))
    if (browser := session.get("browser")) and browser[0] == name:
        parts = [("browser", *browser)]  # where this user has logged in before
    else:
        parts = [("both", name, address), ("address", address), ("user", name)]
    texts = [repr(part).encode("utf-8", "replace") for part in parts]
    return [keys.attempts(hashlib.sha256(text).hexdigest()[:32]) for text in texts]


def _proof(user: User, mark: Any) -> str:
    """What only a session has that began with the current password, after this user's last logout.

    It stands in a cookie; without SECRET_KEY, it cannot be used to guess passwords.
    """
    return seal(mark + f"\0{user.name}\0{user.secret}".encode("utf-8", "surrogateescape"))


def seal(written: bytes) -> str:
    """What only a web process with our SECRET_KEY can make of it."""
    key = current_app.config["SECRET_KEY"]
    return hmac.new(key.encode("utf-8", "surrogateescape"), written, "sha256").hexdigest()
