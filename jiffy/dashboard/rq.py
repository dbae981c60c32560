"""rq-dashboard under /rq/, for those who know it, with its holes closed.

It unpickles whatever it shows, puts texts of jobs into pages as HTML, lets a GET requeue and ends
with a 500 for what it does not expect.  So its module is given classes that only read JSON, its
templates are rewritten as they are loaded, and its addresses are checked before it sees them.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import jinja2
import rq
from flask import Flask, abort, current_app, request
from redis import Redis
from redis.exceptions import ResponseError
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.results import Result
from rq_dashboard import blueprint

from jiffy import connection, keys, rq_compat
from jiffy.dashboard import data, decode, problems
from jiffy.errors import NotShown
from jiffy.producer.enqueue import Job
from jiffy.producer.masking import masked, masked_text

PREFIX = "/rq"
_MOST_PER_PAGE = 200
_REGISTRIES = {"queued", *keys.REGISTRIES}
_RANGES = {"instance_number": (0, 0), "per_page": (1, _MOST_PER_PAGE), "page": (1, 10**9)}
_JOB_ID = re.compile(r"[\w-]+", re.ASCII)
_CHOICES = {"registry_name": _REGISTRIES, "order": {"asc", "dsc"}}


def mount(app: Flask) -> None:
    """Put rq-dashboard into `app`."""
    # One Redis, named but not told: the page shows the text, and never connects to it.
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("Jiffy's Redis",)
    app.before_request(_check_address)
    app.register_blueprint(blueprint, url_prefix=PREFIX)
    app.register_error_handler(NoSuchJobError, lambda _: problems.answer(404, "No such job."))
    app.register_error_handler(
        InvalidJobOperation, lambda _: problems.answer(409, "The job is in no state for this.")
    )


class _OnlyJson:
    """A serializer that opens nothing: what is not JSON becomes the reason why it is not shown."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()

    @staticmethod
    def loads(raw: bytes) -> Any:
        try:
            return decode.with_plain_numbers(decode.value(raw))
        except NotShown as reason:
            return str(reason)


class ShownJob(Job):
    """RQ's job, read without executing it, and as far as it can be read."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RQ's name for it
        connection: Redis | None = None,
        serializer: Any = None,
    ) -> None:
        super().__init__(id, connection, _OnlyJson)
        self.is_corrupt = False

    def restore(self, raw_data: Any) -> None:
        try:
            decode.inflated(raw_data.get(b"data"))  # RQ would inflate it without a limit
            super().restore(raw_data)
            self.description = masked_text(self.description or "")
        except NoSuchJobError:
            raise
        except Exception as error:  # noqa: BLE001 - a corrupt hash can break any line of RQ's
            self.is_corrupt = True
            self.description = f"This job cannot be read: {error}"

    def save(self, pipeline: Any = None, *_: Any, **__: Any) -> None:
        """Write back nothing that we could not read."""
        super().save(pipeline, include_meta=False, include_result=False)

    def requeue(self, at_front: bool = False) -> Any:
        if self.is_corrupt:
            raise InvalidJobOperation(self.description)
        return super().requeue(at_front)

    def get_call_string(self) -> str:
        return self.description or ""

    def get_meta(self, refresh: bool = True) -> Any:
        return masked(super().get_meta(refresh))

    def get_status(self, refresh: bool = True) -> Any:
        return data.read_jobs(self.connection, [self.id])[self.id].state

    def latest_result(self, timeout: int = 0) -> Result | None:
        seen = data.read_job(self.connection, self.id)
        if seen is None or not (seen.has_result or seen.error):
            return None
        kind = Result.Type.FAILED if seen.error else Result.Type.SUCCESSFUL
        value = decode.with_plain_numbers(seen.result)
        return Result(self.id, kind, self.connection, "0-0", None, value, seen.error or None)

    @property
    def dependency_ids(self) -> Any:
        """As bytes, which rq-dashboard takes them for."""
        return [job_id.encode() for job_id in super().dependency_ids]


class ShownQueue(rq.Queue):
    """RQ's queue, whose jobs are read as ours are, and which looking at does not change."""

    job_class = ShownJob

    def fetch_job(self, job_id: str) -> rq.job.Job | None:
        try:
            return ShownJob.fetch(job_id, connection=self.connection)
        except (NoSuchJobError, ResponseError, ValueError):
            return None


class ShownWorker(rq.Worker):
    """RQ's worker, whose current job may be gone or corrupt."""

    job_class = ShownJob

    @classmethod
    def find_by_key(cls, worker_key: str, connection: Redis, *_: Any, **__: Any) -> Any:
        try:
            return super().find_by_key(
                worker_key, connection, ShownJob, ShownQueue, serializer=_OnlyJson
            )
        except (ValueError, UnicodeDecodeError):  # a corrupt hash
            return None

    def get_current_job(self) -> rq.job.Job | None:
        job_id = self.get_current_job_id()
        return ShownQueue(connection=self.connection).fetch_job(job_id) if job_id else None


class _SafeTemplates(jinja2.BaseLoader):
    """rq-dashboard's templates, in which a job's texts are texts."""

    _CHANGES = (
        # What escapes twice would be shown as &amp;.
        (r"\$\('<div/>'\)\.text\((.*?)\)\.html\(\)", r"\1"),
        # Underscore's raw insertion, to its escaped one.
        (r"<%=", "<%-"),
        # Jinja does not escape in .js files.
        (r"'\{\{ queue\.name \}\}'", "{{ queue.name|tojson }}"),
        (r'<script type="text/javascript">', '<script nonce="{{ nonce() }}">'),
        (r"filename='favicon\.ico'", "filename='favicon.svg'"),
        (r'<a class="navbar-brand">', '<a class="navbar-brand" href="/">Jiffy</a> \\g<0>'),
    )

    def __init__(self, inner: jinja2.BaseLoader) -> None:
        self._inner = inner

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, filename, is_fresh = self._inner.get_source(environment, template)
        if template.startswith("rq_dashboard/"):
            for pattern, replacement in self._CHANGES:
                source = re.sub(pattern, replacement, source)
        return source, filename, is_fresh


def _check_address() -> None:
    """Refuse what rq-dashboard would end with a 500 for, or do without being asked to."""
    if request.blueprint != "rq_dashboard":
        return
    current_app.__dict__["redis_conn"] = connection.shared()
    if request.endpoint == "rq_dashboard.requeue_all" and request.method != "POST":
        abort(405)
    for name, value in (request.view_args or {}).items():
        if name == "job_id" and not _JOB_ID.fullmatch(value):
            abort(404, f"No job can have the id {value!r}.")
        if name in _CHOICES and value not in _CHOICES[name]:
            abort(
                404,
                f"No {name.removesuffix('_name')} {value!r}: {', '.join(sorted(_CHOICES[name]))}.",
            )
        if name in _RANGES and not _is_within(value, *_RANGES[name]):
            low, high = _RANGES[name]
            abort(404, f"{name} must be from {low:,} to {high:,}, not {value!r}.")


def _is_within(value: str | int, low: int, high: int) -> bool:
    return str(value).isascii() and str(value).isdigit() and low <= int(value) <= high


def _jobs_of_page(  # in place of rq-dashboard's get_queue_registry_jobs_count
    queue_name: str, registry_name: str, offset: int, per_page: int, order: str, redis: Redis
) -> tuple[int, list[Any]]:
    """How many jobs there are, and those of one page: as many as were asked for."""
    queue = ShownQueue(queue_name, connection=redis)
    take: Callable[[str, int, int], Any]
    if registry_name == "queued":
        name, total, take = queue.key, queue.count, redis.lrange
    else:
        name = keys.REGISTRIES[registry_name] + queue_name
        total, take = redis.zcard(name), redis.zrange
    first, last = offset, offset + per_page - 1
    if order == "dsc":
        first, last = max(0, total - 1 - last), total - 1 - first
    found: list[Any] = take(name, first, last) if last >= 0 else []
    ids = [decode.text(entry).partition(":")[0] for entry in found]
    jobs = [queue.fetch_job(job_id) for job_id in (reversed(ids) if order == "dsc" else ids)]
    return total, [rq_compat.dashboard_row(job) for job in jobs if job]


def _requeue(job_id: str, connection: Redis, serializer: Any = None) -> Any:
    return ShownJob.fetch(job_id, connection=connection).requeue()


def _close_holes() -> None:
    """Give rq-dashboard's module our classes.  Once a process: the module is shared."""
    rq_compat.replace_in_dashboard(
        _OnlyJson,
        Job=ShownJob,
        Queue=ShownQueue,
        Worker=ShownWorker,
        requeue_job=_requeue,
        get_queue_registry_jobs_count=_jobs_of_page,
        # It would connect anew at each request, and hand that connection to everybody else's.
        from_url=lambda *_, **__: (None, connection.shared()),
        # It would answer 200 while Redis is away: let the error reach ours.
        RedisConnectionError=(),
    )
    blueprint.jinja_loader = _SafeTemplates(blueprint.jinja_loader)


_close_holes()
