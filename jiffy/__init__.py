"""The front desk: the few names that the front rooms and users' jobs import.

Each is loaded when it is first asked for, so that a job that only wants `progress` does not pay for
the web app.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiffy.cli.scheduler import run_scheduler as run_scheduler
    from jiffy.flows import part as part
    from jiffy.job_options import options as options
    from jiffy.job_progress import progress as progress
    from jiffy.placeholder import result as result
    from jiffy.queues import Enqueue as Enqueue
    from jiffy.queues import enqueue as enqueue
    from jiffy.queues import enqueue_many as enqueue_many
    from jiffy.retry import Retry as Retry
    from jiffy.rq_job import find_job as find_job
    from jiffy.scheduler import at as at
    from jiffy.scheduler import cron as cron
    from jiffy.scheduler import every as every
    from jiffy.scheduler import simulate as simulate
    from jiffy.waiting import wait as wait
    from jiffy.waiting import wait_all as wait_all
    from jiffy.worker import SimpleWorker as SimpleWorker
    from jiffy.worker import Worker as Worker

__version__ = "0.1.0"

_HOME = {
    "Enqueue": "jiffy.queues",
    "enqueue": "jiffy.queues",
    "enqueue_many": "jiffy.queues",
    "find_job": "jiffy.rq_job",
    "options": "jiffy.job_options",
    "part": "jiffy.flows",
    "result": "jiffy.placeholder",
    "Retry": "jiffy.retry",
    "wait": "jiffy.waiting",
    "wait_all": "jiffy.waiting",
    "progress": "jiffy.job_progress",
    "at": "jiffy.scheduler",
    "cron": "jiffy.scheduler",
    "every": "jiffy.scheduler",
    "run_scheduler": "jiffy.cli.scheduler",
    "simulate": "jiffy.scheduler",
    "SimpleWorker": "jiffy.worker",
    "Worker": "jiffy.worker",
}

__all__ = [
    "Enqueue", "Retry", "SimpleWorker", "Worker", "at", "cron", "enqueue", "enqueue_many", "every",
    "find_job", "options", "part", "progress", "result", "run_scheduler", "simulate",
    "wait", "wait_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jiffy' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
