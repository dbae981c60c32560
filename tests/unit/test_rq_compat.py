"""Names of RQ that are not public exist.  That they are used in one module only, ruff checks."""

import re
from pathlib import Path

import pytest
import rq.job
import rq_dashboard.web
from redis import Redis

from jiffy import rq_compat

JOB = rq.job.Job("id", connection=Redis())
QUEUE = rq.Queue(connection=Redis())
WORKER = rq.SimpleWorker(["default"], connection=Redis(), prepare_for_work=False)
# What jiffy/rq_compat.py uses, and of what it is a part.
NAMES = {
    "_current_job": rq.job,
    "_result": JOB,
    "_status": JOB,
    "_execute": JOB,
    "_serialize_meta": JOB,
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


def test_each_private_name_has_its_line_here():
    text = Path(rq_compat.__file__).read_text()

    assert set(re.findall(r"(?<!self)[.\"](_[a-z]\w+)", text)) >= set(NAMES)
    assert set(re.findall(r"(?<!self)\.(_[a-z]\w+)", text)) <= set(NAMES)
