"""The front desk: the few names that the front rooms and users' jobs import.

Each is loaded when it is first asked for, so that a job that only wants `progress` does not pay for
the web app.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiffy.cli.scheduler import run_scheduler as run_scheduler
    from jiffy.producer import actions as actions
    from jiffy.producer.flows import part as part
    from jiffy.producer.job_options import options as options
    from jiffy.producer.job_progress import progress as progress
    from jiffy.producer.placeholder import result as result
    from jiffy.producer.queues import Enqueue as Enqueue
    from jiffy.producer.queues import Job as Job
    from jiffy.producer.queues import Queue as Queue
    from jiffy.producer.queues import enqueue as enqueue
    from jiffy.producer.queues import enqueue_many as enqueue_many
    from jiffy.producer.retry import Retry as Retry
    from jiffy.producer.rq_job import find_job as find_job
    from jiffy.producer.waiting import wait as wait
    from jiffy.producer.waiting import wait_all as wait_all
    from jiffy.scheduler import at as at
    from jiffy.scheduler import cron as cron
    from jiffy.scheduler import every as every
    from jiffy.scheduler import simulate as simulate
    from jiffy.worker import SimpleWorker as SimpleWorker
    from jiffy.worker import Worker as Worker

__version__ = "0.1.0"

_HOME = {
    "actions": "jiffy.producer",
    "Enqueue": "jiffy.producer.queues",
    "enqueue": "jiffy.producer.queues",
    "enqueue_many": "jiffy.producer.queues",
    "Job": "jiffy.producer.queues",
    "Queue": "jiffy.producer.queues",
    "find_job": "jiffy.producer.rq_job",
    "options": "jiffy.producer.job_options",
    "part": "jiffy.producer.flows",
    "result": "jiffy.producer.placeholder",
    "Retry": "jiffy.producer.retry",
    "wait": "jiffy.producer.waiting",
    "wait_all": "jiffy.producer.waiting",
    "progress": "jiffy.producer.job_progress",
    "at": "jiffy.scheduler",
    "cron": "jiffy.scheduler",
    "every": "jiffy.scheduler",
    "run_scheduler": "jiffy.cli.scheduler",
    "simulate": "jiffy.scheduler",
    "SimpleWorker": "jiffy.worker",
    "Worker": "jiffy.worker",
}

__all__ = [
    "Enqueue", "Job", "Queue", "Retry", "SimpleWorker", "Worker", "actions", "at", "cron",
    "enqueue",
    "enqueue_many", "every", "find_job", "options", "part", "progress", "result", "run_scheduler",
    "simulate", "wait", "wait_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jiffy' has no attribute {name!r}")
    value = globals()[name] = resolve_name(f"{_HOME[name]}.{name}")
    return value
