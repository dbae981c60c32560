"""What stands around every page: the counters, the environment, and what is wrong."""

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Generic, TypeVar, cast

from flask import Flask, Response, current_app, g, request, session
from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, history, redis_io
from jiffy.control import read
from jiffy.control.read import Census
from jiffy.control.values import clip
from jiffy.control.why import banners
from jiffy.settings import settings

# However many people watch: all queues are counted once in this time by a process.
CURRENT_S = 1.0
_DONE_S = 3.0
_RELEASES_S = 10.0
_FLOWS_S = 2.0
# Of what is shown next, in the cookie: browsers keep 4 kB, and nginx reads no more of all headers.
_MOST_MESSAGES, _MOST_LETTERS = 2, 300
T = TypeVar("T")
_AGO = re.compile(rb">[^<>]*</time>")  # JSON may have many ">": each search ends at the next
# The endpoint of each page, and its name.
_PAGES = (
    ("home.home", "Overview"), ("jobs.jobs", "Jobs"), ("failures.failures", "Failures"),
    ("queues.queues", "Queues"), ("schedule.schedule", "Schedule"),
    ("workers.workers", "Workers"), ("system.system", "System"), ("audit.show", "Audit"),
    ("rq_dashboard.queues_overview", "rq-dashboard"),
)  # fmt: skip


class _Kept(Generic[T]):
    """What was read last, for all threads of this process; one of them at a time reads it anew.

    It lasts no less than it took to read, so reading takes half of one thread at most.
    """

    def __init__(self, read: Callable[[Redis], T], lasts_s: float) -> None:
        self._lock = threading.Lock()
        self._read, self._lasts_s = read, lasts_s
        self._value: T | None = None
        self._read_at, self._fresh_s = 0.0, lasts_s
        self._fails_until, self._error = 0.0, RedisError()

    def forget(self) -> None:
        """Read it anew: something was done just now."""
        self._value = None

    def get(self) -> T:
        asked_at = clock.monotonic()
        # It will do while another thread reads it anew: else all threads would wait for that one.
        recent = self._younger_than(3 * self._fresh_s)
        if not self._lock.acquire(blocking=recent is None):
            return cast(T, recent)
        try:
            if asked_at < self._fails_until:  # else all would wait for Redis, one after another
                raise self._error.with_traceback(None)
            value = self._younger_than(self._fresh_s)
            return self._read_anew() if value is None else value
        finally:
            self._lock.release()

    def _read_anew(self) -> T:
        begins_at = clock.monotonic()
        try:
            value = self._value = self._read(redis_io.shared())
        except RedisError as error:
            now, self._error = clock.monotonic(), error
            self._fails_until = now + min(now - begins_at, CURRENT_S)
            raise
        self._read_at = clock.monotonic()
        self._fresh_s = max(self._lasts_s, self._read_at - begins_at)
        return value

    def _younger_than(self, age_s: float) -> T | None:
        return self._value if clock.monotonic() - self._read_at < age_s else None


def kept(name: str, read: Callable[[Redis], T], lasts_s: float) -> T:
    """What `read` returns, read anew once it is so old; however many people watch."""
    found: _Kept[T] = current_app.extensions.setdefault(f"jiffy.{name}", _Kept(read, lasts_s))
    return found.get()


def census() -> Census:
    """All queues, counted about a second ago."""
    return kept("census", read.census, CURRENT_S)


def flows() -> Mapping[str, history.Flow]:
    """What came into each queue and left it in the last minutes."""
    return kept("flows", history.flows, _FLOWS_S)


def releases() -> Mapping[str, datetime]:
    """When the first worker of each release started, the newest first."""
    return kept("releases", history.releases, _RELEASES_S)


def newest_release() -> str:
    """The newest release that workers run; "" where none says so."""
    live = [*census().releases]
    if len(live) > 1:
        live = [*releases(), *live]
    return next((name for name in live if name in census().releases), "")


def surround(app: Flask) -> None:
    """Give every page of `app` its frame: mostly without a round trip of its own."""
    app.extensions["jiffy.census"] = _Kept(read.census, CURRENT_S)

    @app.context_processor
    def _around() -> dict[str, object]:
        found: dict[str, object] = {}
        who, config = g.get("who"), settings()
        if who:
            with suppress(RedisError):  # the page itself says so
                done = kept(
                    "done", lambda redis: history.read(redis, span="24h").whole.done, _DONE_S
                )
                found = {"census": census(), "banners": [*banners(census())], "done": done}
        return {
            "frame": found,
            "pages": _PAGES,
            "environment": "production" if config.is_production else config.jiffy_env,
            "is_live": is_live(),
            "now": clock.now(),
            "who": who,
            "read_only": config.read_only or not who or who.role != "operator",
        }

    @app.after_request
    def _tag(response: Response) -> Response:
        """Spare the script what it has already; it writes how long ago a time was by itself."""
        if session.modified and "_flashes" in session:
            last = session["_flashes"][-_MOST_MESSAGES:]
            session["_flashes"] = [(kind, clip(words, _MOST_LETTERS)) for kind, words in last]
        if "audited" in g:
            current_app.extensions["jiffy.census"].forget()
        if is_live() and response.status_code == 200 and not response.direct_passthrough:
            lasting = _AGO.sub(b"></time>", response.get_data())
            response.set_etag(hashlib.sha256(lasting).hexdigest()[:32])
            response.make_conditional(request)
        return response


def is_live() -> bool:
    """Whether the script of a page asks for what has changed."""
    return request.headers.get("X-Requested-With") == "live"
