"""Bring what a producer says to Redis: one script, one round trip, said again until it is heard.

It may be said again because the scripts know what they have heard (`enqueue.lua`).  Safe in threads
and after a fork: each exchange borrows a connection from the client's pool.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
)

from jiffy import clock, connection, scripts
from jiffy.errors import JiffyError, RedisFull
from jiffy.settings import settings, without_password

PATIENCE_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_FULL = "OOM "
_MULTI, _EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"

T = TypeVar("T")


class Message(NamedTuple):
    """A call of a script: its keys and arguments, packed as Redis reads them, and how many."""

    script: str
    length: int
    words: bytes

    def by_sha(self) -> bytes:
        return _start(self.script, self.length, False) + self.words

    def in_full(self) -> bytes:
        return _start(self.script, self.length, True) + self.words


def packed(words: Sequence[object]) -> bytes:
    """Words as Redis reads them (RESP): texts, numbers, bytes."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in raw])


def deliver(redis: Redis, message: Message) -> Any:
    """Say it until it is heard; return the script's answer.

    Raises RedisAway or RedisFull after PATIENCE_S of trying.
    """
    return patiently(lambda: _say(redis, message))


def deliver_together(redis: Redis, messages: Sequence[Message]) -> None:
    """The same for several: Redis hears all of them, in one transaction, or none."""
    raw = b"".join([_MULTI, *(message.in_full() for message in messages), _EXEC])
    patiently(lambda: _say_together(redis, raw, len(messages) + 2))


def patiently(say: Callable[[], T]) -> T:
    """Call `say` again while Redis is away, for PATIENCE_S at most.  It must be safe to repeat."""
    give_up_at, pause_s = clock.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
    while True:
        try:
            return say()
        except RedisError as error:
            if not connection.is_away(error):
                raise
            pause_s *= random.uniform(1, 2)  # not all producers at the same moment
            if isinstance(error, AuthenticationError) or clock.monotonic() + pause_s > give_up_at:
                raise _in_words(error) from error
            clock.pause(pause_s)
            pause_s = min(pause_s, _LONGEST_PAUSE_S)


class Ahead:
    """Says one message and lets the caller go on, until it asks for the answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._message: Message | None = None
        self._connection: Any = None

    def say(self, message: Message) -> None:
        """Send it now if that can be done; `answer` sees to the rest."""
        assert self._message is None
        self._message = message
        try:
            self._connection = self._redis.connection_pool.get_connection()
            self._connection.send_packed_command((message.by_sha(),))
        except BaseException as error:
            self._hang_up()
            if not isinstance(error, RedisError):
                raise

    def answer(self) -> Any:
        """The answer to the last message; None if there was none.  Raises what `deliver` does."""
        message, self._message = self._message, None
        if message is None:
            return None
        if self._connection is not None:
            try:
                answer = self._connection.read_response()
            except BaseException as error:
                self._hang_up()
                if not isinstance(error, RedisError):
                    raise
            else:
                self._redis.connection_pool.release(self._connection)
                self._connection = None
                return answer
        return deliver(self._redis, message)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._redis.connection_pool.release(self._connection)
            self._connection = None


def exchange(redis: Redis, raw: bytes, answers: int = 1) -> list[Any]:
    """Send what is packed already; return so many answers.  Raises redis-py's errors."""
    pool = redis.connection_pool
    line = pool.get_connection()
    try:
        line.send_packed_command((raw,))
        return [line.read_response() for _ in range(answers)]
    except BaseException:
        line.disconnect()  # an answer may still be on its way: nobody must read it
        raise
    finally:
        pool.release(line)


def _say(redis: Redis, message: Message) -> Any:
    try:
        return exchange(redis, message.by_sha())[0]
    except NoScriptError:
        return exchange(redis, message.in_full())[0]


def _say_together(redis: Redis, raw: bytes, answers: int) -> None:
    *_, said = exchange(redis, raw, answers)
    for answer in said:
        if isinstance(answer, RedisError):
            raise answer


@lru_cache(maxsize=256)
def _start(script: str, count: int, in_full: bool) -> bytes:
    source = scripts.source(script).encode()
    words = [b"EVAL", source] if in_full else [b"EVALSHA", hashlib.sha1(source).hexdigest()]
    return b"*%d\r\n" % (count + 2) + packed(words)


def _in_words(error: RedisError) -> JiffyError:
    if isinstance(error, OutOfMemoryError) or _FULL in str(error):
        return RedisFull(without_password(connection.redis_url(settings())))
    return connection.away(error)
