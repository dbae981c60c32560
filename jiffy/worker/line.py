"""A worker's line to Redis: what must be said is said until it is heard.

It borrows one connection from the client's pool for each exchange, so that a job that uses its own
`job.connection` meanwhile needs no second one.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis-py's
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,  # noqa: A004 - redis-py's
)

from jiffy import clock, log, scripts

# What passes by itself: Redis restarts, fails over, or is full until somebody drains it.
AWAY = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError)
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 3.0

T = TypeVar("T")
Words = tuple[Any, ...]


class Line:
    """Exchanges with Redis, cheaper than through the client, and patient where that is asked."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._pool = redis.connection_pool
        self._is_away = False

    def exchange(self, *commands: Words) -> list[Any]:
        """Send the commands in one write; return their replies.

        Raises redis-py's errors; nothing is sent twice.
        """
        connection = self._pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            return [connection.read_response() for _ in commands]
        except BaseException:
            connection.disconnect()  # a reply may still be on its way: nobody must read it
            raise
        finally:
            self._pool.release(connection)

    def run(self, name: str, keys: list[str], args: list[Any], *after: Words) -> list[Any]:
        """Run the script `name`; return its reply, then those of the commands `after` it."""
        call = (len(keys), *keys, *args)
        try:
            return self.exchange(("EVALSHA", _sha(name), *call), *after)
        except NoScriptError:
            return self.exchange(("EVAL", scripts.source(name), *call), *after)

    def insist(self, say: Callable[[], T]) -> T:
        """Call `say` until Redis is there to hear it.  It must be safe to repeat."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                answer = say()
            except AWAY as error:
                self.note_away(error)
                clock.pause(pause_s * random.uniform(0.5, 1.5))  # not all at the same moment
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self.note_back()
                return answer

    def note_away(self, error: Exception) -> None:
        """Log it, once, when Redis goes away."""
        if not self._is_away:
            log.event("redis.away", log.WARNING, reason=error)
        self._is_away = True

    def note_back(self) -> None:
        """Log it, once, when Redis is back."""
        if self._is_away:
            log.event("redis.back", log.WARNING)
        self._is_away = False


_SHAS: dict[str, str] = {}


def _sha(name: str) -> str:
    if name not in _SHAS:
        _SHAS[name] = hashlib.sha1(scripts.source(name).encode()).hexdigest()
    return _SHAS[name]
