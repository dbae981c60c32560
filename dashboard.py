"""The web app.  Yours: list your own pages here.  Start it with `python dashboard.py`.

A page is a Flask blueprint.  It is shown to who is logged in, like all the others.
"""

from flask import Blueprint

from jiffy.cli import main
from jiffy.dashboard import web_app

PAGES: list[Blueprint] = []

if __name__ == "__main__":
    main("dashboard")

app = web_app(PAGES)  # for other WSGI servers
