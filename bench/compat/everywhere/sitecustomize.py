"""Loaded by every interpreter of a run of RQ's suite, as Python itself starts: also by the commands
that its tests call.

Puts our workers where RQ's are, and a private Redis where RQ's tests expect one: on port 6379.
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


def _put_ours_in_place_of_rqs() -> None:
    """Bind RQ's names to our classes in each module of RQ's that knows them."""
    import rq

    for found in pkgutil.walk_packages(rq.__path__, "rq."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    ours = importlib.import_module("jiffy.worker")
    for name in ("Worker", "SimpleWorker"):
        _rebind(getattr(rq, name), getattr(ours, name))


def _rebind(theirs: type, ours: type) -> None:
    for module in _rqs_modules():
        for name, value in list(vars(module).items()):
            if value is theirs:
                setattr(module, name, ours)


def _rqs_modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "rq" and name != _HOME_OF_RQS_CLASSES
    ]


def _is_child_of_spawn_worker() -> bool:
    """RQ's SpawnWorker finishes its job in a process of its own, by the stock Worker's methods."""
    return "RQ_EXECUTION_ID" in os.environ


def _prepare() -> None:
    _reach_the_private_redis()
    if os.environ["COMPAT_WORKER"] == "jiffy" and not _is_child_of_spawn_worker():
        _put_ours_in_place_of_rqs()


try:
    _prepare()
except Exception:  # noqa: BLE001 - Python would only print it, and the run would prove nothing
    traceback.print_exc()
    raise SystemExit("RQ's suite was not prepared") from None
