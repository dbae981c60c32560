"""The jobs: each writes into the ledger that it begins, and that it has ended.

The ledger is a file, so it is right whatever happens to Redis or to a worker.
"""

import ctypes
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

from redis import Redis
from rq import get_current_job
from rq.job import Job

# Enough to be over every limit that is set, and harmless where none is.
HOG_MB = 600
GIANT_RESULT_BYTES = 20_000_000


def work(name: str, took_s: float) -> str:
    """What all good jobs do: take their time."""
    _write("begin", name)
    deadline = time.monotonic() + took_s
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(left)
    _write("end", name)
    return name


def tiny(name: str) -> None:
    """Quick enough to be claimed with many others."""
    _write("begin", name)
    _write("end", name)


def fail_twice(name: str) -> None:
    """Fail as long as the ledger has fewer than two failures of it: that asks no Redis."""
    _write("begin", name)
    if Path(os.environ["CHAOS_LEDGER"]).read_text().count(f" fail {name} ") < 2:
        _write("fail", name)
        raise ArithmeticError(name)
    _write("end", name)


def gather(results: list[dict[str, Any]], name: str) -> None:
    """The end of a group."""
    assert all(result["status"] == "finished" for result in results), results
    tiny(name)


def tick() -> None:
    """What the schedule runs: its id says when."""
    job = get_current_job()
    assert job
    tiny(job.id)


def call(job: Job, connection: Redis, result: object) -> None:
    """The callback `on_success`."""
    _write("call", job.id)


def segfault(name: str) -> None:
    _write("begin", name)
    ctypes.string_at(0)


def leave(name: str, code: int) -> None:
    """End the process without a word."""
    _write("begin", name)
    os._exit(code)


def kill_itself(name: str) -> None:
    _write("begin", name)
    os.kill(os.getpid(), signal.SIGKILL)


def hold_the_interpreter(name: str) -> None:
    """Loop in C for ever: no signal handler of Python's gets a turn."""
    _write("begin", name)
    sum(itertools.repeat(0))


def swallow_the_timeout(name: str) -> None:
    _write("begin", name)
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001 - that is the poison
            continue


def hog_memory(name: str) -> None:
    _write("begin", name)
    hoard = [bytearray(os.urandom(1) * 1_000_000) for _ in range(HOG_MB)]
    time.sleep(60)
    hoard.clear()


def return_a_giant(name: str) -> str:
    _write("begin", name)
    return "x" * GIANT_RESULT_BYTES


def _write(event: str, name: str) -> None:
    """Append one line, whole: what is this short is never torn between processes."""
    line = f"{time.monotonic():.6f} {event} {name} {os.getpid()}\n"
    ledger = os.open(os.environ["CHAOS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line.encode())
    os.close(ledger)
