"""The public names: what front rooms, jobs and users' programs import.

Each is loaded when it is first used, so that a job that only wants `progress` does not pay for the
web app.
"""

import re
from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # never run: type checkers and editors read it, and so does `_HOMES` below
    from rq import RateLimit as RateLimit

    from jiffy import redis_io
    from jiffy.cli.scheduler import run_scheduler as run_scheduler
    from jiffy.cli.worker import run_worker as run_worker
    from jiffy.control import entries as entries
    from jiffy.control import read as read
    from jiffy.control.pauses import pause as pause
    from jiffy.control.pauses import resume as resume
    from jiffy.hooks import Hooks as Hooks
    from jiffy.producer import job
    from jiffy.producer.enqueue import Enqueue as Enqueue
    from jiffy.producer.enqueue import Job as Job
    from jiffy.producer.enqueue import Queue as Queue
    from jiffy.producer.enqueue import enqueue as enqueue
    from jiffy.producer.enqueue import enqueue_many as enqueue_many
    from jiffy.producer.job import find_job as find_job
    from jiffy.producer.options import options as options
    from jiffy.producer.payload import result as result
    from jiffy.producer.progress import progress as progress
    from jiffy.producer.results import wait as wait
    from jiffy.producer.results import wait_all as wait_all
    from jiffy.producer.retry import Retry as Retry
    from jiffy.producer.workflows import part as part
    from jiffy.scheduler.entry import at as at
    from jiffy.scheduler.entry import cron as cron
    from jiffy.scheduler.entry import every as every
    from jiffy.scheduler.entry import simulate as simulate
    from jiffy.worker.rq_worker import SimpleWorker as SimpleWorker
    from jiffy.worker.rq_worker import Worker as Worker

    actions, connection = job, redis_io

__version__ = "0.1.0"

_SOURCE = globals()["__spec__"].loader.get_source(__name__)
_HOMES = {
    name: f"{home}.{name}" for home, name in re.findall(r"from (\S+) import (\w+) as", _SOURCE)
}
_HOMES |= {"actions": "jiffy.producer.job", "connection": "jiffy.redis_io"}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in ("Celery", "shared_task", "task", "chain", "group", "chord", "signature"):
        plain = "a job is a plain function, which enqueue(add, 2, 3) puts on a queue"
        raise ImportError(f"jiffy has no {name!r}: {plain}. See docs/from-celery.md.")
    if name not in _HOMES:
        raise AttributeError(f"module 'jiffy' has no attribute {name!r}")
    import_module(_HOMES[name].rpartition(".")[0])  # it says what is not installed
    value = globals()[name] = resolve_name(_HOMES[name])
    return value
