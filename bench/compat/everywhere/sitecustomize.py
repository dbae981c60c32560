"""Loaded by every interpreter of a run of a suite, as Python itself starts: also by the commands
that its tests call.

Puts our classes where the suite's are, and a private Redis where its tests expect one: port 6379.
"""

import importlib
import os
import pkgutil
import sys
import traceback
from types import ModuleType
from typing import Any

PORT_OF_RQS_TESTS = 6379
# The classes that RQ derives from its Worker stay what they are.
_HOME_OF_RQS_CLASSES = "rq.worker.worker_classes"


def _reach_the_private_redis() -> None:
    """Lead every connection to port 6379 to the port in the environment."""
    from redis.connection import Connection

    connect: Any = Connection._connect

    def connect_elsewhere(self: Any) -> Any:
        if self.port == PORT_OF_RQS_TESTS:
            self.port = int(os.environ["COMPAT_REDIS_PORT"])
        return connect(self)

    Connection._connect = connect_elsewhere  # type: ignore[method-assign]


def _put_our_workers_in_place() -> None:
    """Bind RQ's names to our classes in each module of RQ's that knows them."""
    import rq

    for found in pkgutil.walk_packages(rq.__path__, "rq."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    ours = importlib.import_module("jiffy.worker.rq_worker")
    for name in ("Worker", "SimpleWorker"):
        _rebind("rq", getattr(rq, name), getattr(ours, name))


def _put_our_scheduler_in_place() -> None:
    """With RQ's own job, since the tests read back by RQ's serializer what was written."""
    import rq
    import rq_scheduler.scripts.rqscheduler
    from rq.job import Job

    from jiffy.scheduler.rq_entries import Scheduler

    stock = rq_scheduler.Scheduler
    ours = type("Scheduler", (Scheduler,), {"job_class": Job, "queue_class": rq.Queue})
    ours.__module__ = Scheduler.__module__
    _rebind("rq_scheduler", stock, ours)


def _rebind(package: str, theirs: type, ours: type) -> None:
    """Put `ours` where `theirs` is: names of modules, and what functions have by default."""
    for module in _modules_of(package):
        for name, value in list(vars(module).items()):
            if value is theirs:
                setattr(module, name, ours)
            for function in [value, *vars(value).values()] if isinstance(value, type) else [value]:
                if theirs in (getattr(function, "__defaults__", None) or ()):
                    given = (ours if one is theirs else one for one in function.__defaults__)
                    function.__defaults__ = tuple(given)


def _modules_of(package: str) -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == package and name != _HOME_OF_RQS_CLASSES
    ]


def _is_child_of_spawn_worker() -> bool:
    """RQ's SpawnWorker finishes its job in a process of its own, by the stock Worker's methods."""
    return "RQ_EXECUTION_ID" in os.environ


def _prepare() -> None:
    _reach_the_private_redis()
    if os.environ["COMPAT_WORKER"] != "jiffy" or _is_child_of_spawn_worker():
        return
    if os.environ["COMPAT_SUITE"] == "rq":
        _put_our_workers_in_place()
    else:
        _put_our_scheduler_in_place()


try:
    _prepare()
except Exception:  # noqa: BLE001 - Python would only print it, and the run would prove nothing
    traceback.print_exc()
    raise SystemExit("RQ's suite was not prepared") from None
