"""Names of RQ that are not public exist.  That they are used in one module only, ruff checks."""

import functools
import re
from pathlib import Path

import pytest
import rq.job
import rq_dashboard.web
from redis import Redis

from jiffy import Worker, rq_compat

JOB = rq.job.Job("id", connection=Redis())
QUEUE = rq.Queue(connection=Redis())
WORKER = rq.SimpleWorker(["default"], connection=Redis(), prepare_for_work=False)
# What jiffy/rq_compat.py uses, and of what it is a part.
NAMES = {
    "_current_job": rq.job,
    "_result": JOB,
    "_status": JOB,
    "_execute": JOB,
    "_exc_handlers": WORKER,
    "_ordered_queues": WORKER,
    "_dequeue_strategy": WORKER,
    "_start_scheduler": WORKER,
    "_stop_requested": WORKER,
    "_shutdown_requested_date": WORKER,
    "_finalize_success": WORKER,
    "_finalize_failure": WORKER,
    "_enqueue_async_job": QUEUE,
    "_enqueue_rate_limited_job": QUEUE,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_there(name):
    owner = NAMES[name]

    assert hasattr(owner, name), f"{owner!r} has no {name}: see jiffy/rq_compat.py"


def test_a_name_that_rq_dashboard_no_longer_has_is_not_replaced_in_silence():
    with pytest.raises(AttributeError, match="no_such_name"):
        rq_compat.replace_in_dashboard(rq_dashboard.web.config.serializer, no_such_name=1)


class Proxy:
    """Takes over everything from what it wraps, as wrapt's do."""

    def __init__(self, wrapped):
        self._wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def __call__(self, *args):
        return self._wrapped(*args)


class Overriding(rq.Worker):
    def perform_job(self, *args):
        return super().perform_job(*args)


@functools.wraps(rq.Worker.perform_job)
def wrapping(self, *args):
    """Takes over RQ's name and module."""


@pytest.mark.parametrize("method", [wrapping, Proxy(rq.Worker.perform_job), print])
def test_what_is_put_in_the_place_of_a_method_is_seen(monkeypatch, method):
    monkeypatch.setattr(rq.worker.BaseWorker, "perform_job", method)

    assert rq_compat.is_replaced(rq.Worker, "perform_job")
    assert rq_compat.is_replaced(WORKER, "perform_job")


def test_so_is_what_a_subclass_overrides_and_what_one_object_is_given(monkeypatch):
    assert not rq_compat.is_replaced(WORKER, "perform_job")
    assert not rq_compat.is_replaced(rq.Worker, "perform_job")
    assert not rq_compat.is_replaced(Worker, "perform_job")
    assert rq_compat.is_replaced(Overriding, "perform_job")
    monkeypatch.setattr(WORKER, "perform_job", print)
    assert rq_compat.is_replaced(WORKER, "perform_job")


def test_each_private_name_has_its_line_here():
    text = Path(rq_compat.__file__).read_text()

    assert set(re.findall(r"(?<!self)[.\"](_[a-z]\w+)", text)) >= set(NAMES)
    assert set(re.findall(r"(?<!self)\.(_[a-z]\w+)", text)) <= set(NAMES)
