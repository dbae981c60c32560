"""The front desk: the few names that the front rooms and users' jobs import.

Each is loaded when it is first asked for, so that a job that only wants `progress` does not pay for
the web app.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiffy.job_progress import progress as progress
    from jiffy.queues import enqueue as enqueue
    from jiffy.scheduler import cron as cron
    from jiffy.scheduler import every as every
    from jiffy.scheduler import run_scheduler as run_scheduler
    from jiffy.worker import SimpleWorker as SimpleWorker
    from jiffy.worker import Worker as Worker

__version__ = "0.1.0"

_HOME = {
    "enqueue": "jiffy.queues",
    "progress": "jiffy.job_progress",
    "cron": "jiffy.scheduler",
    "every": "jiffy.scheduler",
    "run_scheduler": "jiffy.scheduler",
    "SimpleWorker": "jiffy.worker",
    "Worker": "jiffy.worker",
}

__all__ = ["SimpleWorker", "Worker", "cron", "enqueue", "every", "progress", "run_scheduler"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jiffy' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
