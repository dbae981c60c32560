"""Bring what a producer says to Redis: one script, one round trip, said again until it is heard.

It may be said again because the scripts know what they have heard (`enqueue.lua`).  Safe in threads
and after a fork: each exchange borrows a connection from the client's pool.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jiffy import clock, connection, scripts
from jiffy.errors import RedisFull, RedisRefused

PATIENCE_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_FULL = "OOM "
_JOB_IN_DOUBT = (
    "the job may have been enqueued, as {0!r}; repeat with job_id={0!r}, which makes it once."
)
_IN_DOUBT = "what was asked for may have been done nevertheless."
_BROKEN = (RedisConnectionError, RedisTimeoutError)
# Answers of Redis, though redis-py makes them a kind of broken connection.
_REFUSALS = (AuthenticationError, BusyLoadingError)
_MULTI, _EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"

T = TypeVar("T")


class Message(NamedTuple):
    """A call of a script: its keys and arguments, packed as Redis reads them, and how many.

    `job_id`: of the job that it writes, where it is one.
    """

    script: str
    length: int
    words: bytes
    job_id: str | None = None

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
    doubt = _IN_DOUBT if message.job_id is None else _JOB_IN_DOUBT
    return patiently(lambda: _say(redis, message), message.job_id, doubt)


def deliver_together(redis: Redis, messages: Sequence[Message], doubt: str) -> None:
    """The same for several: Redis hears all of them, in one transaction, or none."""
    raw = b"".join([_MULTI, *(message.in_full() for message in messages), _EXEC])
    patiently(lambda: _say_together(redis, raw, len(messages) + 2), doubt=doubt)


def patiently(say: Callable[[], T], job_id: str | None = None, doubt: str = "") -> T:
    """Call `say` again while Redis is away, beginning none after PATIENCE_S.

    It must be safe to repeat.  `doubt` is what RedisAway is to tell where Redis may have heard it.
    """
    give_up_at, pause_s = clock.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
    is_in_doubt = False
    while True:
        try:
            return say()
        except RedisError as error:
            known = connection.explained(error)
            if known is None:
                raise
            is_in_doubt = is_in_doubt or isinstance(error, Unanswered)
            pause_s *= random.uniform(1, 2)  # not all producers at the same moment
            if isinstance(known, RedisRefused) or clock.monotonic() + pause_s > give_up_at:
                if is_in_doubt and doubt:
                    raise known.but(doubt=doubt.format(job_id), job_id=job_id) from error
                raise (RedisFull(known.url) if _is_full(error) else known) from error
            clock.pause(pause_s)
            pause_s = min(pause_s, _LONGEST_PAUSE_S)


class Unanswered(RedisConnectionError):
    """All was said, then no answer came: it may have been heard."""


class Ahead:
    """Says one message and lets the caller go on, until it asks for the answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._message: Message | None = None
        self._line: Any = None  # on which the answer will come

    def say(self, message: Message) -> None:
        """Send it now if that can be done; `answer` sees to the rest."""
        assert self._message is None
        self._message = message
        with suppress(RedisError):
            self._line = _said(self._redis, message.by_sha())

    def answer(self) -> Any:
        """The answer to the last message; None if there was none.  Raises what `deliver` does.

        Interrupted by an exception, it may be asked again.
        """
        message = self._message
        if message is None:
            return None
        answer = patiently(lambda: self._hear(message), doubt=_IN_DOUBT)
        self._message = None
        return answer

    def _hear(self, message: Message) -> Any:
        line, self._line = self._line, None
        if line is None:
            return _say(self._redis, message)
        try:
            return _heard(self._redis, line, 1)[0]
        except NoScriptError:
            return _say(self._redis, message)


def exchange(redis: Redis, raw: bytes, answers: int = 1) -> list[Any]:
    """Send what is packed already; return so many answers.  Raises redis-py's errors.

    Of these, Unanswered alone means that Redis may have heard it.
    """
    return _heard(redis, _said(redis, raw), answers)


def _said(redis: Redis, raw: bytes) -> Any:
    """Send it; return the connection, on which the answers will come."""
    line = redis.connection_pool.get_connection()
    try:
        line.send_packed_command((raw,))
    except BaseException:
        line.disconnect()
        redis.connection_pool.release(line)
        raise
    return line


def _heard(redis: Redis, line: Any, answers: int) -> list[Any]:
    """The answers; gives the connection back."""
    try:
        return [line.read_response() for _ in range(answers)]
    except BaseException as error:
        line.disconnect()  # an answer may still be on its way: nobody must read it
        if isinstance(error, _BROKEN) and not isinstance(error, _REFUSALS):
            raise Unanswered from error
        raise
    finally:
        redis.connection_pool.release(line)


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


def _is_full(error: RedisError) -> bool:
    return isinstance(error, OutOfMemoryError) or _FULL in str(error)
