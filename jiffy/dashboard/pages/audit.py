"""Who changed what, who logged in, and what was refused."""

from flask import Blueprint, abort, render_template, request

from jiffy.dashboard import audit

page = Blueprint("audit", __name__)

MOST_SHOWN = 100


@page.get("/audit")
def show() -> str:
    kind = request.args.get("kind", "changes")
    if kind not in audit.KINDS:
        abort(404, f"kind is {kind!r}; it must be {', '.join(audit.KINDS)}.")
    found = audit.entries(kind, request.args.get("before", ""), MOST_SHOWN)
    return render_template(
        "audit.html", entries=found, kind=kind, kinds=audit.KINDS, most=MOST_SHOWN
    )
