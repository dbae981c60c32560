"""Log in, log out.

Attempts are counted in Redis, for all web processes together, and slowed down, but no user is ever
locked out: pauses grow by user and address, so guesses from elsewhere delay no login from here.
"""

import hashlib
from ipaddress import IPv6Address, ip_network

from flask import Blueprint, g, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from jiffy import keys, log, redis_io
from jiffy.dashboard import audit, auth

page = Blueprint("login", __name__)

KEPT_MS = 3_600_000  # a count of attempts, after the last pause
# Tries before a pause of one second, which doubles with each, and the longest pause (ms): by a
# user from an address, from an address, and by a user, who never waits for others' attempts.
_LIMITS = (5, 900_000, 20, 60_000, 1, 0)
# By a user within an hour; then each address has one try before its first pause.
ATTACK = 100


@page.get("/login")
def form() -> str | Response:
    g.who = auth.person()
    if g.who:
        return redirect(auth.safe_target(request.args.get("next", "/")))
    return render_template("login.html")


@page.post("/login")
def enter() -> Response:
    name, password = request.form.get("user", ""), request.form.get("password", "")
    counts = _counts(name)
    redis = redis_io.shared()
    if wait_ms := redis_io.run_script(redis, "login", counts, [KEPT_MS, ATTACK, *_LIMITS]):
        wait_s = -(-wait_ms // 1000)
        answer = _again(f"Too many wrong passwords. Try again in {wait_s} s.", 429)
        answer.headers["Retry-After"] = str(wait_s)
        return answer
    user = auth.matches(name, password)
    if user is None:
        log.event("login.refused", address=request.remote_addr)
        audit.login(auth.known(name), "refused: password")
        return _again("That user and password do not match.", 401)
    audit.login(user.name, "logged in")
    with redis.pipeline() as pipe:
        pipe.delete(counts[0])
        for count in counts[1:]:
            pipe.decr(count)
        pipe.execute()
    auth.enter(user)
    return redirect(auth.safe_target(request.args.get("next", "/")))


@page.post("/logout")
def leave() -> Response:
    auth.leave()
    return redirect(url_for("login.form"))


def _counts(name: str) -> list[str]:
    """The keys of the counts of attempts that this one belongs to."""
    if (browser := session.get("browser")) and browser[0] == name:
        parts = [("browser", *browser)]  # where this user has logged in before
    else:
        parts = [("both", name, _address()), ("address", _address()), ("user", name)]
    texts = [repr(part).encode("utf-8", "replace") for part in parts]
    return [keys.attempts(hashlib.sha256(text).hexdigest()[:32]) for text in texts]


def _address() -> str:
    """From where; of IPv6 the network, since anyone has 2**64 addresses there."""
    found = auth.ip(request.remote_addr)
    return str(ip_network((found, 64), strict=False) if isinstance(found, IPv6Address) else found)


def _again(message: str, status: int) -> Response:
    user = request.form.get("user", "")
    return make_response(render_template("login.html", message=message, user=user), status)
