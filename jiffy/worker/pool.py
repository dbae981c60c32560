"""RQ's own worker pool, reading JSON and connecting as every process of ours does."""

import multiprocessing
from typing import Any

from rq import Worker
from rq.worker_pool import WorkerPool

from jiffy import connection
from jiffy.queues import Job, Queue


class Pool(WorkerPool):
    """RQ's worker pool on our connections.

    RQ builds its children's connection and serializer anew, and loses ours on the way.
    """

    def get_worker_process(self, name: str, burst: bool, *_: Any, **__: Any) -> Any:
        return multiprocessing.get_context("fork").Process(
            target=_run, args=(name, self._queue_names, burst), name=f"worker {name}"
        )


def _run(name: str, queue_names: list[str], burst: bool) -> None:
    redis = connection.connect("worker")
    queues = [Queue(queue_name, connection=redis) for queue_name in queue_names]
    worker = Worker(queues, name=name, connection=redis, job_class=Job, serializer="json")
    worker.work(burst=burst, with_scheduler=True)
