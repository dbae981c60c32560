"""A worker's line to Redis: what must be said is said until it is heard.

It borrows one connection from the client's pool for each exchange, so that a job that uses its own
`job.connection` meanwhile needs no second one.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoScriptError,
    RedisError,
    ResponseError,
)

from jiffy import clock, log, scripts
from jiffy.connection import is_away, reason_of

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
HANGS_UP_S = 60  # longer than a bad line lasts, on which long messages are the first to be cut
T = TypeVar("T")
Words = tuple[Any, ...]


class Line:
    """Exchanges with Redis, cheaper than through the client, and patient where that is asked."""

    def __init__(self, redis: Redis, *, tells: bool = True) -> None:
        self.redis = redis
        self._tells = tells  # of a dyno's processes, one says that Redis is away
        self._pool = redis.connection_pool
        self._is_away = False

    def exchange(self, *commands: Words, resends: bool = True) -> list[Any]:
        """Send the commands in one write; return their replies.

        Raises redis-py's errors; nothing is sent twice, unless Redis has forgotten our scripts and
        `resends` is true.  Those before and behind the first forgotten one were carried out then.
        """
        try:
            return self._exchange(commands)
        except NoScriptError:
            self._load()
            if not resends:
                raise
            return self._exchange(commands)

    def _load(self) -> None:
        for name in _SHAS:
            self._exchange([("SCRIPT", "LOAD", scripts.source(name))])

    def run(self, name: str, keys: list[str], args: list[Any]) -> list[Any]:
        """Run the script `name`; return its reply, in a list of one."""
        return self.exchange(self.script(name, keys, args))

    @staticmethod
    def script(name: str, keys: list[str], args: list[Any]) -> Words:
        """The command that runs the script `name`."""
        return ("EVALSHA", _sha(name), len(keys), *keys, *args)

    def _exchange(self, commands: Sequence[Words]) -> list[Any]:
        connection = self._pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            replies = [connection.read_response() for _ in commands]
            self._note_back()
            return replies
        except BaseException:
            connection.disconnect()  # a reply may still be on its way: nobody must read it
            raise
        finally:
            self._pool.release(connection)

    def insist(self, say: Callable[[], T]) -> T:
        """Call `say` until Redis is there to hear it.  It must be safe to repeat.

        Raises ResponseError for what Redis will never take: it hangs up on this, and on nothing
        else, for HANGS_UP_S.
        """
        pause_s, away_at = FIRST_PAUSE_S, clock.monotonic()
        while True:
            try:
                return say()
            except NoScriptError:  # they are loaded by now
                continue
            except RedisError as error:
                if not is_away(error):
                    raise
                if not self._is_hung_up(error):
                    away_at = clock.monotonic()
                elif clock.monotonic() - away_at > HANGS_UP_S:
                    reason = f"Redis hangs up on this, and on nothing else: {error}"
                    raise ResponseError(reason) from error
                self.note_away(error)
                clock.pause(pause_s * random.uniform(0.5, 1.5))  # not all at the same moment
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _is_hung_up(self, error: RedisError) -> bool:
        """Whether Redis has ended the connection, and is there all the same."""
        try:
            return isinstance(error, RedisConnectionError) and bool(self.redis.ping())
        except RedisError:
            return False

    def note_away(self, error: RedisError) -> None:
        """Log it, once, when Redis goes away."""
        if self._tells and not self._is_away:
            log.event("redis.away", log.WARNING, reason=reason_of(error))
        self._is_away = True

    def _note_back(self) -> None:
        if self._tells and self._is_away:
            log.event("redis.back", log.WARNING)
        self._is_away = False


_SHAS: dict[str, str] = {}


def _sha(name: str) -> str:
    if name not in _SHAS:
        _SHAS[name] = hashlib.sha1(scripts.source(name).encode()).hexdigest()
    return _SHAS[name]
