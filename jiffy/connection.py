"""One way to reach Redis, the same for all processes.

A command is never sent twice by the client: most of RQ's are not safe to repeat, and only the
caller knows which are.  A pooled connection that died meanwhile is noticed before it is used.
"""

import encodings.idna  # noqa: F401  # see below
import os
import secrets  # noqa: F401  # the same
import socket
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from jiffy import causes
from jiffy.dev import devredis
from jiffy.errors import MissingSetting, RedisAway, RedisRefused
from jiffy.pool import CappedPool, CappedSentinelPool
from jiffy.settings import Settings, settings, without_password, wrong_address

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 10
FREE_CONNECTION_TIMEOUT_S = 2
# Heroku's Redis lives on such hosts, behind certificates that no authority has signed.
_SELF_SIGNED_HOSTS = (".compute-1.amazonaws.com", ".compute.amazonaws.com")


def connect(
    role: str, answer_timeout_s: float | None = ANSWER_TIMEOUT_S, most: int | None = None
) -> Redis:
    """A client for this process; `role` (worker, web, …) is what `CLIENT LIST` calls it.

    `most`: it opens no more connections than that, shares them, and closes those that are idle.
    Raises MissingSetting in production without REDIS_URL; does not connect yet.
    """
    url = redis_url(settings())
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": answer_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": partial(_introduce, client_name(role)),
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
    return _from_url(url, options)


_is_web = False


@lru_cache(maxsize=1)
def shared() -> Redis:
    """The client that everything in this process shares that has no role of its own."""
    if _is_web:
        return connect("web", most=settings().web_connections)
    return connect("enqueue")


def share_in_web() -> None:
    """Let `shared` serve a web app: it opens WEB_CONNECTIONS at most, in each process.

    Raises MissingSetting and InvalidSetting.
    """
    global _is_web
    _is_web = True
    shared.cache_clear()
    shared()


# A fork copies the locks that other threads hold, and nobody in the child ever lets go of them.  So
# a child makes a client of its own.  (One whose lock is held is in use: this leaves it alone, and
# does not close it, which would wait for the lock.)  Imports have locks, too: what redis-py and the
# first connection import late is imported above.
os.register_at_fork(after_in_child=shared.cache_clear)


def redis_url(config: Settings) -> str:
    """REDIS_URL, or in development the address of a private server, started if need be."""
    if config.redis_url:
        return config.redis_url
    if config.is_production:
        raise MissingSetting("REDIS_URL", "Production needs a Redis of its own: set its address.")
    return devredis.ensure()


def client_name(role: str) -> str:
    """`jiffy:worker:web.1`: the role, then the dyno or this machine's name and process."""
    dyno = settings().dyno or f"{socket.gethostname()}.{os.getpid()}"
    return f"jiffy:{role}:{dyno}"


def _introduce(name: str, connection: AbstractConnection) -> None:
    """Begin a connection as redis-py does, but give it a name only where that is allowed."""
    connection.on_connect()
    connection.send_command("CLIENT", "SETNAME", name)
    with suppress(ResponseError):
        connection.read_response()


def verifies_tls(config: Settings, url: str) -> bool:
    """Whether the certificate behind a rediss:// `url` is checked; True for every other kind."""
    if not url.startswith("rediss://"):
        return True
    if config.redis_tls_verify is not None:
        return config.redis_tls_verify
    host = urlsplit(url).hostname or ""
    return not (config.dyno and host.endswith(_SELF_SIGNED_HOSTS))


def describe(config: Settings) -> str:
    """The start-up line's words for where Redis is."""
    url = redis_url(config)
    if verifies_tls(config, url):
        return without_password(url)
    why = "REDIS_TLS_VERIFY=no" if config.redis_tls_verify is False else "Heroku's are self-signed"
    return f"{without_password(url)} (its certificate is not verified: {why})"


def connected(role: str) -> Redis:
    """The same client, connected now: for programs, which check their Redis before they start."""
    client = connect(role)
    check(client)
    return client


def check(redis: Redis) -> None:
    """Connect; raise redis-py's errors, also where it is a Redis Cluster or a replica."""
    redis.eval("return 1", 0)  # not PING: a sentinel answers it, also to a user without rights
    try:
        said = redis.execute_command("HELLO")
    except ResponseError:  # a proxy may not know it, a user may not be allowed it
        return
    for mode in (b"cluster", b"replica"):
        if mode in (said.values() if isinstance(said, dict) else said):
            raise ResponseError(f"mode {mode.decode()}")


def is_away(error: RedisError) -> bool:
    """Whether the same may succeed later, without a change here.

    A running process waits for that also where the password is refused: it may be a new one's turn.
    """
    if isinstance(error, ResponseError):
        cause = causes.find(error)
        return cause is not None and cause.passes
    return isinstance(error, RedisConnectionError | RedisTimeoutError)


def explained(error: RedisError) -> RedisAway | None:
    """What a redis-py error says of Redis or of our settings, in one line; None if nothing.

    It is RedisRefused where the settings must change.
    """
    cause, url = causes.find(error), without_password(redis_url(settings()))
    if cause is not None:
        kind = RedisAway if cause.passes else RedisRefused
        return kind(url, cause.reason, cause.remedy)
    return RedisAway(url, reason_of(error)) if is_away(error) else None


def reason_of(error: RedisError) -> str:
    """Why Redis cannot be used, in the middle of a sentence or of a line of the log."""
    if cause := causes.find(error):
        return cause.reason
    *_, first = causes.chain(error)
    text = (getattr(first, "strerror", None) or str(first) or type(first).__name__).strip(" .")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _from_url(url: str, options: dict[str, Any]) -> Redis:
    try:
        pool = (CappedPool if "max_connections" in options else ConnectionPool).from_url(
            url, **options
        )
        pool.connection_class(**pool.connection_kwargs)  # refuses an option that it does not know
    except (TypeError, ValueError) as error:
        must = f"an address that the client understands ({str(error).strip(' .')})"
        raise wrong_address(url, must) from None
    return Redis.from_pool(pool)


def _from_sentinel(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    try:
        hosts = [_host_port(text) for text in parts.netloc.rpartition("@")[2].split(",")]
        name, _, db = parts.path.strip("/").partition("/")
        options["db"] = int(db or 0)
    except ValueError:
        name = ""
    if not name:
        must = "redis+sentinel://host:port,host:port/name/db"
        raise wrong_address(url, must)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    sentinel_password = parse_qs(parts.query).get("sentinel_password", [None])[0]
    timeouts = {key: options[key] for key in ("socket_connect_timeout", "protocol", "retry")}
    sentinel = Sentinel(
        hosts, sentinel_kwargs=timeouts | {"password": sentinel_password, "socket_timeout": 2}
    )
    pool_class = CappedSentinelPool if "max_connections" in options else SentinelConnectionPool
    master: Redis = sentinel.master_for(name, connection_pool_class=pool_class, **options)
    return master


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host else (text, 26379)
