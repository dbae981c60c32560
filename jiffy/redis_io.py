"""Redis: connect to it, run a script on it, and the one loop that waits for it.

The client never sends a command twice by itself: most of RQ's are not safe to repeat, and only the
caller knows which are.  A pooled connection that died meanwhile is noticed before it is used.
Everything here is safe in threads and after a fork: each exchange borrows a connection of the pool.
"""

import encodings.idna  # noqa: F401  # see below
import hashlib
import math
import os
import random
import re
import secrets  # noqa: F401  # the same
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.connection import AbstractConnection, BlockingConnectionPool, ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from jiffy import clock, keys, log, redis_causes
from jiffy.errors import (
    InvalidSchedule,
    JiffyError,
    MissingSetting,
    RedisAway,
    RedisFull,
    RedisRefused,
)
from jiffy.settings import Settings, invalid_redis_url, settings, without_password

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 10
_SMALL_BYTES = 10_000  # they are sent at once, also on a slow line
FREE_CONNECTION_TIMEOUT_S = 2
IDLE_S = 10.0  # after that a capped client closes a connection
# How long a producer, or a page, waits for Redis.
PATIENCE_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
REFUSED_AGAIN_S = 60  # a refusal is logged no more often
_NEARLY_FULL = 0.85
HANGS_UP_S = 60  # longer than a bad link lasts, on which large commands are the first to be cut
# Heroku's Redis lives on such hosts, behind certificates that no authority has signed.
_SELF_SIGNED_HOSTS = (".compute-1.amazonaws.com", ".compute.amazonaws.com")
# All of them as this process starts: a deploy may replace the files under it, but not its Python.
_LUA = {file.stem: file.read_text("utf-8") for file in Path(__file__).parent.glob("scripts/*.lua")}
_INCLUDE = re.compile(r"^--include (\w+)\n", re.MULTILINE)
_SHAS: dict[str, bytes] = {}  # of the scripts that this process runs
_HEAD = 80  # so many bytes of a call hold the SHA of its script
_JOB_IN_DOUBT = (
    "the job may have been enqueued, as {0!r}; repeat with job_id={0!r}, and it is enqueued once."
)
_IN_DOUBT = "the request may have been carried out nevertheless."
# Replies of Redis, though redis-py makes them a kind of broken connection.
_REFUSALS = (exceptions.AuthenticationError, exceptions.BusyLoadingError)

T = TypeVar("T")


def connect(
    role: str, answer_timeout_s: float | None = ANSWER_TIMEOUT_S, most: int | None = None
) -> Redis:
    """A client for this process; `role` (worker, web, …) is what `CLIENT LIST` calls it.

    `most`: it opens no more connections than that, shares them, and closes those that are idle.
    Raises MissingSetting in production without REDIS_URL; does not connect yet.
    """
    url, name = redis_url(settings()), client_name(role)

    def introduce(connection: AbstractConnection) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", name)
        with suppress(ResponseError):  # not every user may give names
            connection.read_response()

    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": answer_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": introduce,
        "driver_info": None,  # else two more round trips, and imports that a fork must not copy
        "encoding_errors": "surrogateescape",  # an id that is no UTF-8 goes back as it came
        "protocol": 2,  # RQ was written for its answers, and it saves a round trip a connection
    }
    if most is not None:
        options |= {"max_connections": most, "timeout": FREE_CONNECTION_TIMEOUT_S}
    if url.startswith("redis+sentinel://"):
        return _from_sentinel(url, options)
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    if not verifies_tls(settings(), url):
        options["ssl_cert_reqs"] = "none"
    try:
        pool = (ConnectionPool if most is None else _CappedPool).from_url(url, **options)
        pool.connection_class(**pool.connection_kwargs)  # refuses an option that it does not know
    except (TypeError, ValueError) as error:
        must = f"a URL that redis-py understands ({str(error).strip(' .')})"
        raise invalid_redis_url(url, must) from None
    return Redis.from_pool(pool)


def connected(role: str) -> Redis:
    """A client that is connected: for programs, which check their Redis before they start."""
    client = connect(role)
    check(client)
    return client


_is_web = False


@lru_cache(maxsize=1)
def shared() -> Redis:
    """The client that everything in this process shares that has no role of its own."""
    if _is_web:
        return connect("web", most=settings().web_connections)
    return connect("enqueue")


def share_in_web() -> None:
    """Let `shared` serve a web app: each process opens WEB_CONNECTIONS at most."""
    global _is_web
    _is_web = True
    shared.cache_clear()
    shared()


# A fork copies the locks that other threads hold, and in the child nothing ever releases them.  So
# a child makes a client of its own.  (One whose lock is held is in use: this leaves it alone, and
# does not close it, which would wait for the lock.)  Imports have locks, too: what redis-py and the
# first connection import late is imported above.
os.register_at_fork(after_in_child=shared.cache_clear)


def redis_url(config: Settings) -> str:
    """REDIS_URL, or in development the URL of a private server, started if need be."""
    if config.redis_url:
        return config.redis_url
    if config.is_production:
        raise MissingSetting("REDIS_URL", "Production needs a Redis of its own: set its URL.")
    from jiffy.dev import redis_server  # production never needs it

    return redis_server.ensure()


def client_name(role: str) -> str:
    """`jiffy:worker:web.1`: the role, then the dyno or this machine's name and process."""
    dyno = settings().dyno or f"{socket.gethostname()}.{os.getpid()}"
    return f"jiffy:{role}:{dyno}"


def verifies_tls(config: Settings, url: str) -> bool:
    """Whether the certificate behind a rediss:// `url` is checked; True for every other kind."""
    if not url.startswith("rediss://"):
        return True
    if config.redis_tls_verify is not None:
        return config.redis_tls_verify
    host = urlsplit(url).hostname or ""
    return not (config.dyno and host.endswith(_SELF_SIGNED_HOSTS))


def describe(config: Settings) -> str:
    """Where Redis is, for the line that a program logs as it starts."""
    url = redis_url(config)
    if verifies_tls(config, url):
        return without_password(url)
    why = "REDIS_TLS_VERIFY=no" if config.redis_tls_verify is False else "Heroku's are self-signed"
    return f"{without_password(url)} (its certificate is not verified: {why})"


def _from_sentinel(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    user_password, _, netloc = parts.netloc.rpartition("@")
    pairs = [host.rpartition(":") for host in netloc.split(",")]
    name, _, db = parts.path.strip("/").partition("/")
    try:
        hosts = [(host, int(port)) if host else (port, 26379) for host, _, port in pairs]
        options["db"] = int(db or 0)
    except ValueError:
        name = ""
    if not name:
        raise invalid_redis_url(url, "redis+sentinel://host:port,host:port/name/db")
    user, _, password = user_password.partition(":")
    options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    theirs = {key: options[key] for key in ("socket_connect_timeout", "protocol", "retry")}
    theirs["password"] = parse_qs(parts.query).get("sentinel_password", [None])[0]
    sentinel = Sentinel(hosts, sentinel_kwargs=theirs | {"socket_timeout": 2})
    pool_class = _CappedSentinelPool if "max_connections" in options else SentinelConnectionPool
    master: Redis = sentinel.master_for(name, connection_pool_class=pool_class, **options)
    return master


def disconnect(redis: Redis) -> None:
    """Close all connections of a client, and those to its sentinels."""
    pool: Any = redis.connection_pool
    sentinels = pool.sentinel_manager.sentinels if hasattr(pool, "sentinel_manager") else ()
    for client in (redis, *sentinels):
        client.connection_pool.disconnect()


class _CappedPool(BlockingConnectionPool):
    """Opens no more connections than its cap, and closes those that are idle."""

    def reset(self) -> None:
        """Start anew; also called in a forked process, which has none of our threads."""
        self._lock_idle = threading.Lock()
        self._used: set[Any] = set()
        self._closer: threading.Thread | None = None
        super().reset()  # type: ignore[no-untyped-call]

    def release(self, connection: Any) -> None:
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
            self.close_idle(used)

    def close_idle(self, used: Set[Any] | None = None) -> None:
        """Close the connections that no thread has: all, or those not `used` or used since."""
        free = []
        with suppress(Empty):
            while True:
                free.append(self.pool.get_nowait())
        for connection in reversed(free):  # the last one in is the first one out
            is_used = used is not None and connection in used | self._used
            if connection is not None and not is_used:
                connection.disconnect()
            self.pool.put_nowait(connection)


class _CappedSentinelPool(SentinelConnectionPool, _CappedPool):
    """A capped pool behind a sentinel."""


def check(redis: Redis) -> None:
    """Connect; raise redis-py's errors, also where it is a Redis Cluster or a replica."""
    redis.eval("return 1", 0)  # not PING: a sentinel answers it, also to a user without rights
    try:
        reply = redis.execute_command("HELLO")
    except ResponseError:  # a proxy may not know it, a user may not be allowed it
        return
    for mode in (b"cluster", b"replica"):
        if mode in (reply.values() if isinstance(reply, dict) else reply):
            raise ResponseError(f"mode {mode.decode()}")


def check_rights(redis: Redis) -> None:
    """Raise redis-py's errors for what workers need and this user may not do, or Redis does not
    know (it may have been renamed): a script that is refused a command amid its work loses what it
    has taken.

    The commands are queued in a transaction, and none of them is executed.
    """
    scripts = "".join(_LUA.values())
    needed = {*re.findall(r"(?:call|try|call_own)\('([A-Z]+)'", scripts), "BLPOP"}
    names = needed | {*re.findall("'([A-Z]+)'", scripts)}
    missing = set[str]()
    try:
        [answer] = exchange(redis, command("COMMAND", "INFO", *names))
        known = [*filter(None, answer)]
        missing = needed - {name.decode().upper() for name, *_ in known} if known else missing
        key = f"{keys.RQ}pubsub:nothing"  # in a channel's place, too
        calls = [command(name, *[key] * (abs(arity) - 1)) for name, arity, *_ in known]
        own = command("SET", keys.NOTHING, ""), command("GET", keys.NOTHING)
        exchange(redis, command("MULTI"), *calls, *own, command("DISCARD"))
    except exceptions.NoPermissionError:
        raise
    except ResponseError:  # a proxy may not know these, a full Redis takes none
        pass
    if missing:
        raise ResponseError(f"unknown command '{min(missing)}'")


def now(redis: Redis) -> datetime:
    """The time by Redis' clock."""
    seconds, micros = redis.time()
    return clock.from_wall(seconds + micros / 1e6)


def is_away(error: RedisError) -> bool:
    """Whether the same may succeed later, without a change here."""
    if isinstance(error, ResponseError):
        cause = redis_causes.find(error)
        return cause is not None and cause.passes
    return isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError)


def explained(error: RedisError) -> RedisAway | None:
    """A redis-py error as ours, RedisRefused where settings must change; None for any other."""
    cause, url = redis_causes.find(error), without_password(redis_url(settings()))
    if cause is not None:
        kind = RedisAway if cause.passes else RedisRefused
        return kind(url, cause.reason, cause.remedy)
    return RedisAway(url, reason_of(error)) if is_away(error) else None


@contextmanager
def in_one_line() -> Iterator[None]:
    """Print an error of ours, or why Redis cannot be used, in one line; exit with its status."""
    try:
        yield
    except (JiffyError, RedisError) as raised:
        error = raised if isinstance(raised, JiffyError) else explained(raised)
        if error is None and not isinstance(raised, ResponseError):
            raise
        text = str(error or refusal(raised))
        lines = text if isinstance(error, InvalidSchedule) else " ".join(text.split())
        sys.stderr.write(log.printable(f"{lines}\n"))
        sys.exit(error.exit_code if error else 1)


def refusal(error: Exception) -> str:
    """What Redis says, and the remedy where a key holds something else, which it does not name."""
    is_of_key = re.search("WRONGTYPE|last possible ID|smaller than the target", str(error))
    return f"Redis refuses: {error}." + " Delete or rename the key." * bool(is_of_key)


def let_go(error: RedisError) -> None:
    """In a web app: after an outage connect anew, since a failover may have given our Redis' name
    to another server.  What was the primary goes on as a replica, and refuses each change.
    """
    if isinstance(error, ResponseError | exceptions.TimeoutError) and is_away(error):
        cast(_CappedPool, shared().connection_pool).close_idle()


def reason_of(error: RedisError) -> str:
    """Why Redis cannot be used, as a part of a sentence or of a line of the log."""
    if cause := redis_causes.find(error):
        return cause.reason
    *_, first = redis_causes.chain(error)
    reason = (getattr(first, "strerror", None) or str(first) or type(first).__name__).strip(" .")
    return reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason


@lru_cache
def source(script: str) -> str:
    """The Lua of `scripts/<script>.lua`, with what it includes and the prefixes of our keys."""
    lua = _LUA[script].replace("@RQ@", keys.RQ).replace("@OWN@", keys.OWN)
    return _INCLUDE.sub(lambda found: source(found[1]), lua)


def pack(words: Iterable[object]) -> bytes:
    """Strings, numbers and bytes as Redis reads them; in half the time that redis-py takes."""
    raw = [
        word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")
        for word in words
    ]
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in raw])


def command(*words: object) -> bytes:
    """A command, packed for `exchange`."""
    return b"*%d\r\n%b" % (len(words), pack(words))


def script_command(script: str, keys: Sequence[str | bytes], args: Iterable[object]) -> bytes:
    """The command that runs a script."""
    words = [len(keys), *keys, *args]
    return prepacked(script, len(words), pack(words))


def load_command(script: str) -> bytes:
    """The command that lets Redis know a script."""
    return command("SCRIPT", "LOAD", source(script))


def prepacked(script: str, count: int, words: bytes) -> bytes:
    """The command that runs a script on `count` packed words: number of keys, keys, arguments."""
    sha = _SHAS.get(script)
    if sha is None:
        sha = _SHAS[script] = hashlib.sha1(source(script).encode()).hexdigest().encode()
    return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b" % (count + 2, sha, words)


class Unanswered(exceptions.ConnectionError):
    """All was sent, then no reply came: Redis may have carried it out."""


def exchange(
    redis: Redis, *commands: bytes, resend: bool = True, answer_s: float | None = None
) -> list[Any]:
    """Send the commands in one write; return their replies, waiting up to `answer_s` for each
    (None: ANSWER_TIMEOUT_S).

    Raises redis-py's errors; Unanswered alone means that Redis may have carried them out.  Nothing
    is sent twice, unless Redis has forgotten our scripts and `resend` is true.
    """
    try:
        return _receive(redis, _send(redis, b"".join(commands)), len(commands), answer_s)
    except exceptions.NoScriptError:
        loads = [load_command(name) for name in _SHAS]
        _receive(redis, _send(redis, b"".join(loads)), len(loads))
        if not resend:
            raise
    # Not above: what is raised now has no other cause.
    return _receive(redis, _send(redis, b"".join(commands)), len(commands), answer_s)


def run_script(
    redis: Redis, script: str, keys: Sequence[str | bytes], args: Iterable[object]
) -> Any:
    """Run a script, loaded into Redis if need be; return its reply."""
    return exchange(redis, script_command(script, keys, args))[0]


def _send(redis: Redis, raw: bytes) -> Any:
    connection = redis.connection_pool.get_connection()
    try:
        connection.send_packed_command((raw,))
    except BaseException:
        connection.disconnect()
        redis.connection_pool.release(connection)
        raise
    return connection


def _receive(
    redis: Redis, connection: Any, count: int, answer_s: float | None = None
) -> list[Any]:  # fmt: skip
    replies, longest_s = list[Any](), answer_s or ANSWER_TIMEOUT_S
    try:
        # RQ lets a worker's client wait for 415 s: so long a silent line would stop it.
        waits_longer = (connection.socket_timeout or math.inf) > longest_s
        for _ in range(count):
            if waits_longer and not connection.can_read(timeout=longest_s):
                raise exceptions.TimeoutError(f"no answer in {longest_s:.0f} s")
            replies.append(connection.read_response())
        return replies
    except BaseException as error:
        connection.disconnect()  # a reply may still be on its way: nothing must read it
        is_broken = isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError)
        if is_broken and not isinstance(error, _REFUSALS):
            raise Unanswered from error
        raise
    finally:
        redis.connection_pool.release(connection)


class Link:
    """The exchanges of one part of a process with Redis, and the only loop that waits for it.

    `patience_s`: how long `insist` goes on; None: until Redis is back.  `logs`: whether an outage
    is logged, once when it begins and once when it ends; of a dyno's processes, one does that.
    `answer_s`: how long it waits for the answer to a small request.
    """

    def __init__(
        self, redis: Redis, *, patience_s: float | None = None, logs: bool = True,
        answer_s: float | None = None,
    ) -> None:  # fmt: skip
        self.redis = redis
        self._patience_s, self._logs, self._answer_s = patience_s, logs, answer_s
        self._away_since: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._refused: dict[str, float] = {}  # a reason -> when it was logged

    def exchange(self, *commands: bytes, resend: bool = True) -> list[Any]:
        """As the function `exchange`; a reply ends an outage."""
        # A large one takes its time on a slow line.
        answer_s = self._answer_s if sum(map(len, commands)) < _SMALL_BYTES else None
        replies = exchange(self.redis, *commands, resend=resend, answer_s=answer_s)
        if b"QUEUED" in replies:
            # A job has left a transaction open, which ends with its connection: nothing was done.
            self.redis.connection_pool.disconnect(inuse_connections=False)
            replies = exchange(self.redis, *commands, resend=resend, answer_s=answer_s)
        self.note_back()
        return replies

    def run(self, script: str, keys: Sequence[str], args: Iterable[object]) -> Any:
        """Run a script; return its reply."""
        return self.exchange(script_command(script, keys, args))[0]

    def insist(self, send: Callable[[], T], doubt: str = "", job_id: str | None = None) -> T:
        """Call `send`, which is safe to repeat, again while Redis is away.

        With patience it raises RedisFull or RedisAway, with `doubt` where Redis may have done it.
        Without, redis-py's ResponseError for what Redis will never take: an error of this alone, or
        it hangs up on this, and on nothing else, for HANGS_UP_S.
        """
        began = away_at = clock.monotonic()
        is_in_doubt = is_refused = False
        while True:
            try:
                if is_refused:
                    check_rights(self.redis)
                    is_refused = False
                return send()
            except exceptions.NoScriptError:  # they are loaded by now
                continue
            except RedisError as error:
                now, known = clock.monotonic(), explained(error)
                if known is None:
                    raise
                is_in_doubt = is_in_doubt or isinstance(error, Unanswered)
                is_refused = is_refused or not is_away(error)
                if self._patience_s is None:
                    away_at = away_at if self._hangs_up(error) else now
                    if now - away_at > HANGS_UP_S:
                        reason = "Redis closes the connection at this, and at nothing else"
                        raise ResponseError(f"{reason}: {reason_of(error)}") from error
                elif now + self._pause_s > began + self._patience_s or type(known) is RedisRefused:
                    if is_in_doubt and doubt:
                        raise known.but(doubt=doubt.format(job_id), job_id=job_id) from error
                    is_full = isinstance(error, exceptions.OutOfMemoryError) or "OOM " in str(error)
                    raise (RedisFull(known.url) if is_full else known) from error
                clock.pause(self.note_away(error))

    def _hangs_up(self, error: RedisError) -> bool:
        """Whether Redis has ended the connection, and is there all the same."""
        try:
            is_late = isinstance(error.__cause__, exceptions.TimeoutError)
            is_ended = isinstance(error, exceptions.ConnectionError) and not is_late
            return is_ended and bool(self.redis.ping())
        except RedisError:
            return False

    def note_away(self, error: RedisError) -> float:
        """Log an outage, once, or a refusal, once a minute; return how many seconds to pause before
        the next try.
        """
        now = clock.monotonic()
        if not is_away(error):
            reason = reason_of(error)
            if self._refused.get(reason, -math.inf) < now - REFUSED_AGAIN_S:
                self._refused[reason] = now
                log.event("redis.refused", log.ERROR, reason=reason)
        elif self._away_since is None:
            self._away_since, self._pause_s = now, FIRST_PAUSE_S
            if self._logs:
                log.event("redis.away", log.WARNING, reason=reason_of(error))
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s * random.uniform(0.5, 1.5)  # not all processes at the same moment

    def note_back(self) -> None:
        """Log that an outage is over, if there was one."""
        if self._away_since is not None:
            if self._logs:
                lasted = clock.in_words(clock.monotonic() - self._away_since)
                log.event("redis.back", log.WARNING, away=lasted)
            self._away_since = None


def patiently(redis: Redis, send: Callable[[], T], doubt: str = "", job_id: str | None = None) -> T:
    """Call `send` again while Redis is away, for PATIENCE_S at most; see `Link.insist`."""
    return Link(redis, patience_s=PATIENCE_S, logs=False).insist(send, doubt, job_id)


def deliver(redis: Redis, command: bytes, job_id: str | None = None) -> Any:
    """Send a command that is safe to repeat (of one job: `job_id`) until Redis has it.

    Returns the reply.  Raises RedisAway or RedisFull after PATIENCE_S.
    """
    doubt = _IN_DOUBT if job_id is None else _JOB_IN_DOUBT
    return patiently(redis, lambda: exchange(redis, command)[0], doubt, job_id)


def deliver_together(redis: Redis, calls: Sequence[bytes], doubt: str) -> None:
    """Deliver several script calls, of which Redis runs all or none."""
    # One that Redis had forgotten would be missed only amid the transaction.
    scripts = [name for name, sha in _SHAS.items() if any(sha in call[:_HEAD] for call in calls)]
    loads = [load_command(name) for name in scripts]
    commands = [command("MULTI"), *loads, *calls, command("EXEC")]

    def send() -> None:
        *_, replies = exchange(redis, *commands)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply

    patiently(redis, send, doubt)


class Ahead:
    """Sends one command and lets the caller go on until it asks for the reply."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._command = b""
        self._connection: Any = None  # on which the reply will come

    def send(self, command: bytes) -> None:
        """Send it now if that can be done; if not, `reply` does."""
        assert not self._command
        self._command = command
        with suppress(RedisError):
            self._connection = _send(self._redis, command)

    def reply(self) -> Any:
        """The reply to the last command; None if there was none.  Raises what `deliver` does.

        It can be called again after an exception has interrupted it.
        """
        if not self._command:
            return None
        reply = patiently(self._redis, self._receive, _IN_DOUBT)
        self._command = b""
        return reply

    def _receive(self) -> Any:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(exceptions.NoScriptError):
                return _receive(self._redis, connection, 1)[0]
        return exchange(self._redis, self._command)[0]


@dataclass(frozen=True)
class Memory:
    """Redis' memory, and whether it keeps what it is given; None: it does not say."""

    used: int = 0
    most: int = 0  # 0: no limit but the machine's
    policy: str = ""  # what it does when it is full
    is_kept: bool | None = None  # through a restart

    @classmethod
    def of(cls, answers: Iterable[Any]) -> "Memory":
        """Of the answers to `ask_memory`; those that are errors say nothing."""
        memory, persistence, config = (one if isinstance(one, dict) else {} for one in answers)
        is_kept = True if persistence.get("aof_enabled") else None
        if is_kept is None and "save" in config:
            is_kept = bool(config["save"])
        return cls(
            memory.get("used_memory", 0),
            memory.get("maxmemory", 0),
            str(memory.get("maxmemory_policy", "")),
            is_kept,
        )

    @property
    def evicts(self) -> bool:
        """Whether it deletes jobs when it is full."""
        return bool(self.most) and self.policy not in ("", "noeviction")

    @property
    def is_nearly_full(self) -> bool:
        return bool(self.most) and self.used > _NEARLY_FULL * self.most


def ask_memory(pipe: Pipeline) -> None:
    """Ask for what `Memory.of` reads."""
    pipe.info("memory")
    pipe.info("persistence")
    pipe.config_get("save")
