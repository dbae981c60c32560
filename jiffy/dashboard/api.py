"""The JSON API: enqueue a job, ask what became of it.  Guarded by API_TOKEN alone; it knows no
sessions, so no browser can be made to call it."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from flask import Blueprint, abort, current_app, request, url_for
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from jiffy import connection, retry
from jiffy.dashboard import access, data
from jiffy.dashboard.data import JobView
from jiffy.dashboard.pages.job import GONE
from jiffy.errors import InvalidValue
from jiffy.settings import settings

blueprint = Blueprint("api", __name__, url_prefix="/api")

ENQUEUE = "jiffy.enqueue"  # in the app's extensions: what it enqueues with
_CALL = ("function", "args", "kwargs")
_LONGEST_NAME = 200


@blueprint.post("/jobs")
def create() -> tuple[dict[str, str], int, dict[str, str]]:
    """Enqueue {"function": path, "args": [], "kwargs": {}} and any of OPTIONS."""
    asked = _body()
    path, args, kwargs = (_take(asked, name) for name in _CALL)
    options = dict(_option(name, value) for name, value in asked.items() if name not in _CALL)
    enqueue = current_app.extensions[ENQUEUE]
    job = enqueue.options(**options).by_path(path, *args, **kwargs)
    status_url = url_for("api.show", job_id=job.id, _external=True)
    return (
        {"id": job.id, "queue": job.origin, "status_url": status_url},
        202,
        {"Location": status_url},
    )


@blueprint.get("/jobs/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    found = data.read_job(connection.shared(), job_id)
    if found is None:
        abort(404, GONE.format(job_id))
    return _told(found)


@blueprint.route("/", defaults={"rest": ""})
@blueprint.route("/<path:rest>")
def nothing(rest: str) -> NoReturn:
    abort(404, f"The API has no {request.path}. It has POST /api/jobs and GET /api/jobs/<id>.")


@blueprint.before_request
def _require_token() -> None:
    expected = settings().api_token
    if expected is None:
        abort(403, "The API is closed: set API_TOKEN.")
    given = request.authorization
    is_bearer = given is not None and given.type == "bearer"
    if not (is_bearer and given is not None and access.same(given.token or "", expected)):
        raise Unauthorized(
            "Send the header 'Authorization: Bearer …' with the value of API_TOKEN.",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "jiffy"}),
        )


def _body() -> dict[str, Any]:
    if not request.is_json:
        abort(415, "Send JSON, with the header 'Content-Type: application/json'.")
    try:
        asked = json.loads(request.get_data(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        abort(400, f"The body is not JSON: {error}.")
    if not isinstance(asked, dict):
        abort(
            400,
            'The body must be an object, such as {"function": "jobs.numbers.add", "args": [5, 3]}.',
        )
    return asked


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _take(asked: dict[str, Any], name: str) -> Any:
    kinds: dict[str, tuple[type, Any, str]] = {
        "function": (str, None, "a path, such as 'jobs.numbers.add'"),
        "args": (list, [], "a list"),
        "kwargs": (dict, {}, "an object"),
    }
    kind, otherwise, must = kinds[name]
    value = asked.get(name, otherwise)
    if not isinstance(value, kind):
        raise InvalidValue(name, value, must)
    return value


def _option(name: str, value: Any) -> tuple[str, Any]:
    """An option as `enqueue.options` takes it; what it does not know, that refuses."""
    if name not in OPTIONS:
        raise InvalidValue("option", name, f"one of {', '.join((*_CALL, *OPTIONS))}")
    parse, must = OPTIONS[name]
    try:
        return ("in_" if name == "in" else name), parse(value)
    except (TypeError, ValueError):
        raise InvalidValue(name, value, must) from None


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise ValueError
    return value


def _of(kind: type) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if type(value) is not kind:  # True is an int, but nobody means 1 by it
            raise ValueError
        return value

    return parse


def _duration(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return value


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(_name(value).replace("Z", "+00:00"))


def _ids(value: Any) -> Any:
    return [_name(one) for one in value] if isinstance(value, list) else _name(value)


_PATH = "a function's path, such as 'jobs.mail.send'"
_LASTS = "seconds, or a text such as '90s', '5m' or '1h30m'"

# JSON's name of an option (jiffy.job_options) -> how its value is checked, and what it must be.
OPTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "queue": (_name, f"a name of at most {_LONGEST_NAME} letters"),
    "job_id": (_name, "letters, digits, underscores and dashes"),
    "timeout": (_duration, _LASTS),
    "result_ttl": (_duration, _LASTS),
    "failure_ttl": (_duration, _LASTS),
    "ttl": (_duration, _LASTS),
    "expires": (_duration, _LASTS),
    "retry": (retry.from_json, "a whole number from 1 to 1000, or an object"),
    "at_front": (_of(bool), "true or false"),
    "in": (_duration, _LASTS),
    "at": (_moment, "a time with its zone, such as '2030-01-31T06:00:00Z'"),
    "depends_on": (_ids, "a job's id, or a list of these"),
    "on_success": (_name, _PATH),
    "on_failure": (_name, _PATH),
    "on_stopped": (_name, _PATH),
    "description": (_of(str), "a text"),
    "meta": (_of(dict), "an object"),
    "rescue": (_of(bool), "true or false"),
    "unique": (_duration, _LASTS),
    "unique_key": (_name, f"a name of at most {_LONGEST_NAME} letters"),
    "unique_until": (_name, "'begun' or 'done'"),
}


def _told(job: JobView) -> dict[str, Any]:
    progress = job.progress and {"fraction": job.progress.fraction, "note": job.progress.note}
    times = ("created", "enqueued", "started", "ended")
    return {
        "id": job.id,
        "state": job.state,
        "function": job.function or None,
        "description": job.description,
        "queue": job.queue,
        "worker": job.worker or None,
        "result": job.result,
        "error": job.error or None,
        "progress": progress,
        "times": {name: _iso(getattr(job, name)) for name in times},
        "problems": list(job.problems),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
