"""The first page: how many jobs are in which state, who works on what, what happened last."""

from flask import Blueprint, render_template

from jiffy import connection
from jiffy.dashboard import overview

page = Blueprint("home", __name__)


@page.get("/")
def home() -> str:
    return render_template("home.html", seen=overview.read(connection.shared()))
