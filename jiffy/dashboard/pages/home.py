"""The first page: how many jobs are in each state, what the workers run, what happened last."""

from flask import Blueprint, render_template

from jiffy import entries, read, redis_io

page = Blueprint("home", __name__)

MOST_ENTRIES = 8  # those that are due soonest; the others have a page of their own


@page.get("/")
def home() -> str:
    redis = redis_io.shared()
    return render_template(
        "home.html",
        seen=read.overview(redis),
        schedule=entries.glance(redis),
        entries=entries.read(redis, MOST_ENTRIES),
    )
