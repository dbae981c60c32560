"""The private Redis of the bench, which all reach through TCP, and what it counts."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from jiffy.dev import redis_server


@dataclass(frozen=True)
class Traffic:
    """What Redis has done: commands, those inside scripts too, and reads from its sockets.

    A pipeline that comes in one piece is one read, so reads count round trips; one of over 16 kB is
    several.
    """

    commands: int
    reads: int

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.commands - other.commands, self.reads - other.reads)


@contextmanager
def running() -> Iterator[str]:
    """Start a Redis that keeps nothing; yield its address; stop it."""
    with TemporaryDirectory(prefix="jiffy-bench-") as home:
        port = free_port()
        options = ("--port", str(port), "--bind", "127.0.0.1")
        unix = redis_server.start(Path(home), keep=False, options=options)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            redis_server.stop(unix)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def traffic(redis: Redis) -> Traffic:
    stats: Any = redis.info("stats")
    return Traffic(stats["total_commands_processed"], stats["total_reads_processed"])


def clients(redis: Redis) -> int:
    """How many connections Redis has, without this one."""
    info: Any = redis.info("clients")
    return int(info["connected_clients"]) - 1
