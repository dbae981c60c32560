"""Log in, log out."""

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from jiffy import log
from jiffy.dashboard import auth

page = Blueprint("login", __name__)


@page.get("/login")
def form() -> str | Response:
    if auth.is_logged_in():
        return redirect(auth.safe_target(request.args.get("next", "/")))
    return render_template("login.html")


@page.post("/login")
def enter() -> Response | tuple[str, int]:
    attempts: auth.Attempts = current_app.extensions["jiffy.attempts"]
    address = request.remote_addr or ""
    if not attempts.are_left(address):
        return _again("Too many wrong passwords. Try again in a minute.", 429)
    if not auth.matches(request.form.get("user", ""), request.form.get("password", "")):
        attempts.note_wrong(address)
        log.event("login.refused", address=address)
        return _again("That user and password do not match.", 401)
    auth.enter()
    return redirect(auth.safe_target(request.args.get("next", "/")))


@page.post("/logout")
def leave() -> Response:
    auth.leave()
    return redirect(url_for("login.form"))


def _again(message: str, status: int) -> tuple[str, int]:
    return render_template("login.html", message=message, user=request.form.get("user", "")), status
