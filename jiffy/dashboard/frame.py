"""What stands around every page: the counters, the environment, and what is wrong."""

import hashlib
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, current_app, request, session, url_for
from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, read, redis_io
from jiffy.dashboard import auth
from jiffy.dashboard.banners import Banner, banners
from jiffy.read import Census
from jiffy.settings import Settings

# However many people watch: all queues are counted once in this time by a process.
_CURRENT_S = 1.0
_AGO = re.compile(rb"(?<=>)[^<]*(?=</time>)")
# (endpoint, name); a page is linked once it exists
_PAGES = (
    ("home.home", "Overview"), ("jobs.jobs", "Jobs"), ("failures.failures", "Failures"),
    ("queues.queues", "Queues"), ("schedule.schedule", "Schedule"),
    ("workers.workers", "Workers"), ("system.system", "System"),
    ("rq_dashboard.queues_overview", "rq-dashboard"),
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """The counters of the top bar; `census` has them by queue."""

    census: Census
    banners: list[Banner]

    @property
    def counts(self) -> dict[str, int]:
        return self.census.counts


class _Counted:
    """The last census of a process, and a lock, so that one thread at a time takes a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken_at = -_CURRENT_S
        self._census: Census | None = None

    def forget(self) -> None:
        """Count anew: something was done just now."""
        self._taken_at = -_CURRENT_S

    def get(self, redis: Redis) -> Census:
        with self._lock:
            if self._census is None or clock.monotonic() - self._taken_at >= _CURRENT_S:
                self._census = read.census(redis)
                self._taken_at = clock.monotonic()
            return self._census


def census(redis: Redis) -> Census:
    """All queues, counted at most a second ago."""
    counted: _Counted = current_app.extensions["jiffy.census"]
    return counted.get(redis)


def frame(redis: Redis) -> Frame:
    """What every page shows around its own content; at most one round trip."""
    found = census(redis)
    return Frame(found, banners(found))


def surround(app: Flask, config: Settings) -> None:
    """Give every page of `app` its frame."""
    app.extensions["jiffy.census"] = _Counted()
    environment = "production" if config.is_production else config.jiffy_env

    def page_url(endpoint: str, **values: Any) -> str:
        """The URL of a page; of the first one where this app has no such page."""
        return url_for(endpoint if endpoint in app.view_functions else "home.home", **values)

    @app.context_processor
    def _around() -> dict[str, object]:
        found = None
        if session.get("user"):
            with suppress(RedisError):  # the page itself says so
                found = frame(redis_io.shared())
        return {
            "frame": found,
            "pages": [page for page in _PAGES if page[0] in app.view_functions],
            "page_url": page_url,
            "environment": environment,
            "is_live": is_live(),
        }

    app.after_request(_tag)


def is_live() -> bool:
    """Whether the script of a page asks for what has changed."""
    return request.headers.get("X-Requested-With") == "live"


def _tag(response: Response) -> Response:
    """Spare the script what it has already; it writes how long ago a time was by itself."""
    if request.method not in auth.SAFE_METHODS:
        current_app.extensions["jiffy.census"].forget()
    if is_live() and response.status_code == 200:
        lasting = _AGO.sub(b"", response.get_data())
        response.set_etag(hashlib.sha256(lasting).hexdigest()[:32])
        response.make_conditional(request)
    return response
