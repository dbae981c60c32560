"""rq-dashboard under /rq/, for those who know it, with its holes closed.

It unpickles what it shows, inserts strings as HTML, requeues on GET and answers 500 to what it does
not expect. So its data comes from `jiffy.control.read`, its templates are rewritten as they are
loaded, and its URLs are checked first.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jinja2
import rq
from flask import Flask, abort, current_app, jsonify, request, url_for
from redis import Redis
from rq.serializers import JSONSerializer
from rq_dashboard import blueprint

from jiffy import clock, keys, redis_io, rq_compat
from jiffy.control import bulk, read, search, values
from jiffy.dashboard import audit
from jiffy.dashboard.frame import census
from jiffy.dashboard.pages.jobs import act_on

PREFIX = "/rq"
_MOST, _MOST_DEPENDENCIES = 1000, 100  # workers; of a job
_RANGES = {"instance_number": (0, 0), "per_page": (1, 200), "page": (1, 10**9)}
_CHOICES = {"registry_name": set(read.STATES), "order": {"asc", "dsc"}}
_JOB_ID, _NUMBER = re.compile(r"[\w-]+", re.ASCII), re.compile("[0-9]{1,10}")


def mount(app: Flask) -> None:
    # One Redis: the page shows this name, and never connects to it.
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("Jiffy's Redis",)
    app.before_request(_check_url)
    app.register_blueprint(blueprint, url_prefix=PREFIX)
    for name, view in _VIEWS.items():
        app.view_functions[f"rq_dashboard.{name}"] = view


def _check_url() -> None:
    """Refuse what rq-dashboard would answer with a 500, or do on a GET."""
    if request.blueprint != "rq_dashboard":
        return
    current_app.__dict__["redis_conn"] = redis = redis_io.shared()
    if request.endpoint == "rq_dashboard.requeue_all" and request.method != "POST":
        abort(405)
    given = request.view_args or {}
    for name in _CHOICES.keys() & given:
        if given[name] not in _CHOICES[name]:
            known = ", ".join(sorted(_CHOICES[name]))
            abort(404, f"No {name.removesuffix('_name')} {given[name]!r}: {known}.")
    for name in _RANGES.keys() & given:
        (low, high), number = _RANGES[name], str(given[name])
        if not (_NUMBER.fullmatch(number) and low <= int(number) <= high):
            abort(404, f"{name} must be from {low:,} to {high:,}, not {number!r}.")
    job_id = given.get("job_id", "")
    if job_id and not (_JOB_ID.fullmatch(job_id) and redis.exists(keys.job(job_id))):
        abort(404, f"No job {job_id!r}.")


# What its pages read, in place of its own views


def _list_queues(instance_number: int) -> Any:
    queues = []
    for queue in census().queues:
        mark = " (unreadable)" if queue.is_unreadable else ""
        row: dict[str, Any] = {"name": queue.name + mark}
        for state, count in queue.counts.items():
            number = "count" if state == "queued" else f"{state}_job_registry_count"
            row[number] = count
            row[f"{state}_url"] = url_for(
                "rq_dashboard.jobs_overview", instance_number=instance_number,
                queue_name=queue.name, registry_name=state, per_page=8, order="asc", page=1,
            )  # fmt: skip
        queues.append(row)
    return jsonify(queues=queues)


def _list_workers(instance_number: int) -> Any:
    found = read.fleet(redis_io.shared(), _MOST)
    workers = []
    for worker in sorted(found.workers, key=lambda one: (one.state, one.queues, one.name)):
        job = found.jobs.get(worker.job_id)
        state = "no heartbeat" if worker.is_late else worker.state
        current = job and {"job_id": job.id, "call_string": job.description, **_row(job)}
        workers.append(
            {
                "name": worker.name,
                "queues": worker.queues,
                "state": "unreadable" if worker.problems else state,
                "current_job": current or "idle",
            }
        )
    return jsonify(workers=workers)


def _jobs_of_page(  # in place of rq-dashboard's get_queue_registry_jobs_count
    queue_name: str, registry_name: str, offset: int, per_page: int, order: str, redis: Redis
) -> tuple[int, list[Any]]:
    """How many jobs there are, and those of one page."""
    is_queued, name = registry_name == "queued", keys.jobs_in(registry_name, queue_name)
    total = values.answer(redis.llen if is_queued else redis.zcard, name) or 0
    first, last = offset, offset + per_page - 1
    if order == "dsc":
        first, last = -last - 1, -first - 1
    members = values.answer(redis.lrange if is_queued else redis.zrange, name, first, last) or ()
    ids = [values.text(member).partition(":")[0] for member in members]
    if order == "dsc":
        ids.reverse()
    jobs = read.jobs(redis, ids, with_errors=True).values()
    return total, [{**_row(job), "exc_info": job.error or None} for job in jobs]


def _job_info(instance_number: int, job_id: str) -> Any:
    job = read.known_job(redis_io.shared(), job_id)
    depends_on = job.depends_on[:_MOST_DEPENDENCIES]
    there = read.jobs(redis_io.shared(), depends_on) if depends_on else {}
    return jsonify(
        **_row(job),
        origin=job.queue,
        status=job.state,
        # No browser could read NaN and infinities as JSON.
        result=json.loads(json.dumps(job.result), parse_constant=str),
        exc_info=job.error or None,
        metadata=json.dumps(job.meta),
        depends_on=depends_on,
        depends_on_status=["active" if one in there else "expired" for one in depends_on],
    )


def _row(job: read.JobView) -> dict[str, Any]:
    mark = f" (unreadable: {'; '.join(job.problems)})" if job.is_unreadable else ""
    times = {}
    for name in ("created", "enqueued", "started", "ended"):
        moment = getattr(job, name) or (clock.now() if name == "created" else None)
        times[f"{name}_at"] = moment and moment.isoformat()
    seen = f"{job.mark} {job.id}"
    return {"id": job.id, "seen": seen, "description": job.description + mark, **times}


def _act(name: str, job_id: str) -> Any:
    tally = act_on(name, [job_id])
    if tally.refused:
        abort(409, tally.refused)
    return jsonify(status="OK")


def _act_on_list(name: str | None, queue_name: str, registry_name: str = "queued") -> Any:
    """Act on all jobs of a list that allow it, and take out those that are gone."""
    redis, is_queue = redis_io.shared(), registry_name == "queued"
    key = keys.jobs_in(registry_name, queue_name)
    members = values.answer(redis.lrange if is_queue else redis.zrange, key, 0, -1) or ()
    ids = [values.text(one).partition(":")[0] for one in members]
    if name:
        tally, now, done = bulk.Tally(), redis_io.now(redis), list[str]()
        wanted = search.parse(f"state:{registry_name}")
        try:
            for place in range(0, len(ids), bulk.STEP):
                part = ids[place : place + bulk.STEP]
                done += bulk.step(redis, name, wanted, now, part, tally)
        finally:
            audit.note(jobs=tally.done, done=" ".join(done))
    for place in range(0, len(ids), bulk.STEP):
        some = slice(place, place + bulk.STEP)
        with redis.pipeline(transaction=False) as pipe:
            for job_id in ids[some]:
                pipe.exists(keys.job(job_id))
            for one, is_there in zip(members[some], pipe.execute(), strict=True):
                if not is_there:
                    pipe.lrem(key, 1, one) if is_queue else pipe.zrem(key, one)
            pipe.execute()
    return jsonify(status="OK", count=len(ids))


_VIEWS: dict[str, Callable[..., Any]] = {
    "list_queues": _list_queues,
    "list_workers": _list_workers,
    "job_info": _job_info,
    "requeue_job_view": partial(_act, "retry"),
    "delete_job_view": partial(_act, "delete"),
    "requeue_all": lambda queue_name: _act_on_list("retry", queue_name, "failed"),
    "empty_queue": partial(_act_on_list, "delete"),
    "compact_queue": partial(_act_on_list, None),
}


# What its other views are given in place of RQ's


class _Queue(rq.Queue):
    """RQ's queue, whatever the names of the others are."""

    @classmethod
    def all(cls, connection: Redis, *_: Any, **__: Any) -> list[Any]:
        return [cls(name, connection=connection) for name in read.queue_names(connection)]


_CHANGES = (
    # What is escaped twice would be shown as &amp;.
    (r"\$\('<div/>'\)\.text\((.*?)\)\.html\(\)", r"\1"),
    # A button says how its job was when it was shown.
    (r'data-job-id="<%= d\.id %>"', r'\g<0> data-seen="<%= d.seen %>"'),
    (r"\$row = \$this\.parents\('tr'\),", r"\g<0> seen = $row.attr('data-seen'),"),
    (r"var html;", "var html, seen;"),
    (r"html \+= template\(\{d: job\}", r"seen = job.seen; \g<0>"),
    (r"\$\.post\(url(, \{\})?(?=[,)])", "$.post(url, {seen: seen}"),
    # Underscore's raw insertion, to its escaped one.
    (r"<%=", "<%-"),
    # Jinja does not escape in .js files.
    (r"'\{\{ queue\.name \}\}'", "{{ queue.name|tojson }}"),
    # Any page of a sibling domain could set that cookie.
    (r'getCookie\("_csrf_token"\)', "{{ token()|tojson }}"),
    (r'<script type="text/javascript">', '<script nonce="{{ nonce() }}">'),
    # What a viewer may not do is not shown.
    (
        r'(?s)<(a|button)\s[^<]*?class="btn btn-outline-.*?</\1>',
        r"{% if not read_only %}\g<0>{% endif %}",
    ),
    (r"filename='favicon\.ico'", "filename='favicon.svg'"),
    (
        r'<a class="navbar-brand">',
        '<a class="navbar-brand" href="{{ url_for(\'home.home\') }}">Jiffy</a> \\g<0>',
    ),
)
_templates = blueprint.jinja_loader


def _safe_template(name: str) -> tuple[str, str | None, Callable[[], bool] | None]:
    """One of its templates, in which a job's strings are inserted as text."""
    source, path, is_fresh = _templates.get_source(jinja2.Environment(autoescape=True), name)
    for pattern, replacement in _CHANGES:
        source = re.sub(pattern, replacement, source)
    return source, path, is_fresh


# Once a process: its module is shared by all apps.
rq_compat.replace_in_dashboard(
    JSONSerializer,
    Job=SimpleNamespace(fetch=lambda job_id, connection: SimpleNamespace(id=job_id)),
    Queue=_Queue,
    Worker=SimpleNamespace(all=lambda connection: ()),
    get_queue_registry_jobs_count=_jobs_of_page,
    # It would open a connection at each request, and hand it to all other requests.
    from_url=lambda *_, **__: (None, redis_io.shared()),
    # It would answer 200 while Redis is away: let the error reach our handler.
    RedisConnectionError=(),
)
blueprint.jinja_loader = jinja2.FunctionLoader(_safe_template)
