"""The first page: what happens now, and where jobs wait."""

from flask import Blueprint, render_template

from jiffy import redis_io
from jiffy.dashboard import search
from jiffy.dashboard.frame import census
from jiffy.dashboard.search import Cursor

page = Blueprint("home", __name__)

# The others have pages of their own.
MOST_QUEUES, MOST_JOBS = 8, 20


@page.get("/")
def home() -> str:
    redis = redis_io.shared()
    seen = census(redis)
    found = search.search(redis, seen, search.parse(""), Cursor())
    waiting = sorted(seen.queues, key=lambda queue: (-queue.waited_s, queue.name))
    return render_template(
        "home.html", seen=seen, jobs=found.jobs[:MOST_JOBS], queues=waiting[:MOST_QUEUES]
    )
