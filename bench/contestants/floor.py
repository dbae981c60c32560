"""The floor: how fast a bare Python loop works on RQ's data, with nothing that makes it safe.

It takes a hundred jobs at a time off the queue, runs them, and writes what RQ writes, without
redis-py, whose pipeline costs more than Redis itself.  It is no contestant but a measure of them:
whatever writes RQ's traces in Python cannot be much faster.
"""

import pickle
import socket
import sys
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from bench.contestants import REDIS_URL, VARIANT
from bench.contestants.rq import DONE, enqueue, enqueue_many

__all__ = ["DONE", "MANY_AT_ONCE", "PACKAGES", "VARIANTS", "enqueue", "enqueue_many", "workers"]

PACKAGES = ("rq",)
VARIANTS = {"lasting": "writes what lasts", "all": "writes all that RQ writes, one by one"}
MANY_AT_ONCE = False

BATCH = 100
QUEUE = "rq:queue:default"
KEPT_S = 500

Command = tuple[str | bytes | int | float, ...]


def workers(n: int) -> list[list[str]]:
    return [[sys.executable, "-m", "bench.contestants.floor"]] * n


class Wire:
    """Redis' protocol, as little of it as will do."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port))
        self.answers = self.socket.makefile("rb")

    def ask(self, commands: Iterable[Command]) -> list[Any]:
        """Send them in one piece; return their answers."""
        packed = [_pack(command) for command in commands]
        self.socket.sendall(b"".join(packed))
        return [self._answer() for _ in packed]

    def _answer(self) -> Any:
        line = self.answers.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"+:":
            return rest
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if rest == b"-1":
            return None
        if kind == b"$":
            return self.answers.read(int(rest) + 2)[:-2]
        return [self._answer() for _ in range(int(rest))]


def work(wire: Wire) -> None:
    """Take, run and write, for ever."""
    worker = uuid4().hex
    while True:
        (ids,) = wire.ask([("LPOP", QUEUE, BATCH)])
        if not ids:
            (found,) = wire.ask([("BLPOP", QUEUE, 1)])
            ids = found[1:] if found else []
        begun = [(job_id.decode(), uuid4().hex) for job_id in ids]
        if VARIANT == "all":
            wire.ask(command for job in begun for command in _beginning(*job, worker))
        data = wire.ask(("HGET", f"rq:job:{job_id}", "data") for job_id, _ in begun)
        results = [_run(item) for item in data]
        ending = _all_of_the_end if VARIANT == "all" else _what_lasts
        wire.ask(
            command
            for job, result in zip(begun, results, strict=True)
            for command in ending(*job, worker, result)
        )


def _run(data: bytes) -> str:
    path, _, args, kwargs = pickle.loads(zlib.decompress(data))
    module, _, name = path.rpartition(".")
    result = getattr(import_module(module), name)(*args, **kwargs)
    return b64encode(pickle.dumps(result)).decode()


def _beginning(job_id: str, execution: str, worker: str) -> Iterator[Command]:
    """What RQ writes before a job runs."""
    now, job, key = _now(), f"rq:job:{job_id}", f"rq:execution:{job_id}:{execution}"
    yield "HSET", f"rq:worker:{worker}", "last_heartbeat", now
    yield "EXPIRE", f"rq:worker:{worker}", 480
    yield "HSET", key, "id", execution, "job_id", job_id, "created_at", now, "worker_name", worker
    yield "EXPIRE", key, 240
    yield "ZADD", f"rq:executions:{job_id}", 1, execution
    yield "EXPIRE", f"rq:executions:{job_id}", 300
    yield "ZADD", "rq:wip:default", 1, f"{job_id}:{execution}"
    yield "HSET", f"rq:worker:{worker}", "state", "busy"
    yield "SADD", f"rq:worker:{worker}:executions", f"{job_id}:{execution}"
    yield "EXPIRE", f"rq:worker:{worker}:executions", 300
    yield "HSET", f"rq:worker:{worker}", "last_heartbeat", now
    yield "EXPIRE", f"rq:worker:{worker}", 240
    yield "HSET", job, "last_heartbeat", now
    yield "HSET", job, "status", "started", "started_at", now, "worker_name", worker
    yield "PERSIST", job


def _all_of_the_end(job_id: str, execution: str, worker: str, result: str) -> Iterator[Command]:
    """What RQ writes when a job has run."""
    job, key = f"rq:job:{job_id}", f"rq:execution:{job_id}:{execution}"
    yield "HSET", job, "last_heartbeat", _now()
    yield "HINCRBY", f"rq:worker:{worker}", "successful_job_count", 1
    yield "HINCRBYFLOAT", f"rq:worker:{worker}", "total_working_time", 0.001
    yield from _what_lasts(job_id, execution, worker, result)
    yield "EXPIRE", f"{job}:dependents", KEPT_S
    yield "EXPIRE", f"rq:job::{job_id}:dependencies", KEPT_S
    yield "SREM", f"rq:worker:{worker}:executions", f"{job_id}:{execution}"
    yield "DEL", key
    yield "ZREM", "rq:wip:default", f"{job_id}:{execution}"
    yield "ZREM", f"rq:executions:{job_id}", execution


def _what_lasts(job_id: str, execution: str, worker: str, result: str) -> Iterator[Command]:
    """What can be seen of a finished job afterwards."""
    job, results, now = f"rq:job:{job_id}", f"rq:results:{job_id}", _now()
    yield (
        "HSET",
        job,
        "status",
        "finished",
        "started_at",
        now,
        "ended_at",
        now,
        "worker_name",
        worker,
    )
    yield (
        *("XADD", results, "MAXLEN", "~", 10, "*", "type", 1, "worker_name", worker),
        *("return_value", result, "execution_id", execution),
    )
    yield "EXPIRE", results, KEPT_S
    yield "EXPIRE", job, KEPT_S
    yield "ZADD", "rq:finished:default", 1, job_id


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _pack(command: Command) -> bytes:
    parts = [str(part).encode() for part in command]
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)])


if __name__ == "__main__":
    work(Wire(REDIS_URL))
