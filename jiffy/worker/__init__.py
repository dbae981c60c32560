"""Workers: they claim, run and finish jobs; a supervisor watches over them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiffy.worker.rq_worker import SimpleWorker as SimpleWorker
    from jiffy.worker.rq_worker import Worker as Worker

__all__ = ["SimpleWorker", "Worker"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'jiffy.worker' has no attribute {name!r}")
    from jiffy.worker import rq_worker

    return getattr(rq_worker, name)
