"""Who changed what: streams in Redis, written around every request that changes something.

An entry is written before anything is done, so what Redis does not record is not done; what came
of it replaces that entry.  Only the fields in _SHOWN are kept: no argument of a job, no password.
"""

from typing import Any

from flask import Blueprint, Response, abort, g, render_template, request
from redis.exceptions import RedisError

from jiffy import log, redis_io
from jiffy.control.audit import KINDS, MOST_SHOWN, NOTHING, add, entries
from jiffy.control.search import MOST_CHARS
from jiffy.control.values import clip

page = Blueprint("audit", __name__)

_SHOWN = (
    "name", "queue", "queue_name", "function", "job_id", "id", "worker", "job", "key", "action",
    "registry_name", "q", "filter", "rate", "count", "until", "why",
)  # fmt: skip
_MOST_LETTERS = 300  # of each, but a filter is shown whole
_MOST_OF = dict.fromkeys(("q", "filter"), MOST_CHARS)
_ENQUEUE = "api.enqueue"


def begin(who: str) -> None:
    """Record what this request asks for.  Raises redis-py's errors: then it must not be done.

    A full Redis is the exception, since people empty it from here: then the log has the entry.
    Jobs that programs enqueue are another: each is its own record, so one entry at the end will do.
    """
    entry: dict[str, object] = {
        "who": who,
        "what": request.endpoint,
        "on": _asked(request.form.to_dict(flat=False)),
    }
    g.audit_id = None if request.endpoint == _ENQUEUE else _add("changes", entry)
    g.audited = entry


def note(**fields: object) -> None:
    """Add to the entry of this request, if there is one: how many `jobs` it changed, the id of the
    `job` that it has enqueued, those that were `done` of many, …
    """
    if "audited" in g:
        g.audited |= fields


def changed(has_changed: bool) -> bool:
    """What was given; where nothing has changed, the entry of this request says so."""
    note(done="" if has_changed else NOTHING)
    return has_changed


def end(response: Response) -> Response:
    """Record and log what came of it; after the fact, nothing can be refused any more."""
    is_enqueue, status = request.endpoint == _ENQUEUE, response.status_code
    if "audited" not in g or (is_enqueue and not g.audited.get("jobs", status < 400)):
        return response
    if isinstance(g.get("body"), dict):
        note(on=_asked(g.body))
    for name in ("job", "done"):
        if made := g.audited.pop(name, ""):
            note(on=f"{g.audited['on']} {name}={made}".strip())
    note(status=status)
    if not is_enqueue:
        log.event("dashboard.acted", **g.audited | {"on": clip(g.audited["on"], _MOST_LETTERS)})
    try:
        _add("enqueued" if is_enqueue else "changes", g.audited, g.audit_id)
    except RedisError as error:
        log.event("audit.unfinished", log.WARNING, **g.audited, reason=error)
    return response


def login(who: str, what: str) -> None:
    """Record that someone logged in or out."""
    _add("logins", {"who": who, "what": what, "on": ""})


def refused(who: str, why: str) -> None:
    """Record that someone was not let in; `who` is never what was only typed."""
    _add("refused", {"who": who, "what": f"refused: {why}", "on": ""})


def _asked(sent: Any) -> str:
    """What these fields say: all of them, so that none can hide another."""
    values = {**sent, **(request.view_args or {})}
    said = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return " ".join(
        f"{name}={clip(' '.join(map(str, said[name])), _MOST_OF.get(name, _MOST_LETTERS))}"
        for name in _SHOWN
        if any(one not in ("", None) for one in said.get(name, ()))
    )


def _add(kind: str, fields: dict[str, object], old_id: bytes | None = None) -> bytes | None:
    return add(redis_io.shared(), kind, fields | {"from": request.remote_addr or ""}, old_id)


@page.get("/audit")
def show() -> str:
    kind = request.args.get("kind", KINDS[0])
    if kind not in KINDS:
        abort(404, f"kind is {kind!r}; it must be {', '.join(KINDS)}.")
    found = entries(redis_io.shared(), kind, request.args.get("before", ""))
    return render_template("audit.html", entries=found, kind=kind, kinds=KINDS, most=MOST_SHOWN)
