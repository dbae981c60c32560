"""Pools of connections to Redis with a cap, for a process that answers many requests at a time."""

import threading
from contextlib import suppress
from queue import Empty
from typing import Any

from redis.connection import BlockingConnectionPool
from redis.sentinel import SentinelConnectionPool

from jiffy import clock

IDLE_S = 10.0


class CappedPool(BlockingConnectionPool):
    """Opens so many connections at most, and closes those that were not used for a while.

    While all are in use, a thread that needs one waits for `timeout` seconds; then it raises
    redis-py's ConnectionError.
    """

    def reset(self) -> None:
        """Begin anew; also called in a forked process, which has none of our threads."""
        self._lock_idle = threading.Lock()
        self._used: set[Any] = set()
        self._closer: threading.Thread | None = None
        super().reset()  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
        """Take it back, for the next thread."""
        super().release(connection)  # type: ignore[no-untyped-call]
        with self._lock_idle:
            self._used.add(connection)
            if self._closer is None:
                self._closer = threading.Thread(target=self._close_idle, daemon=True)
                self._closer.start()

    def _close_idle(self) -> None:
        """Close what was not used for IDLE_S; end when nothing is left to close."""
        used: set[Any] = self._used
        while used:
            clock.pause(IDLE_S)
            with self._lock_idle:
                used, self._used = self._used, set()
                if not used:
                    self._closer = None
            free = []
            with suppress(Empty):
                while True:
                    free.append(self.pool.get_nowait())
            for connection in reversed(free):  # the last one in is the first one out
                if connection is not None and connection not in used | self._used:
                    connection.disconnect()
                self.pool.put_nowait(connection)


class CappedSentinelPool(SentinelConnectionPool, CappedPool):
    """The same behind a sentinel."""
