"""Failed jobs in groups: the same exception out of the same code; which groups are ignored.

An ignored group comes back by itself when it fails on a release that it had not been seen on.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from redis import Redis

from jiffy import clock, keys, tracebacks
from jiffy.control import search, values
from jiffy.control.read import Census, JobView
from jiffy.control.search import Cursor, Filter
from jiffy.errors import NotShown, WrongArguments
from jiffy.tracebacks import Group

MOST_IGNORED = 1000
MOST_GROUPS = 200  # of a page, or an answer
SHOWN = 25  # jobs of a group
_LEFT_OUT: dict[str, Any] = {
    "description": "",
    "arguments": "",
    "error": "",
    "call": None,
    "meta": {},
}
_NOTED_S = 90 * 24 * 3600  # since it was acted upon last
_MOST_RELEASES = 50


class Seen(NamedTuple):
    """When a group failed first, or since when `who` ignores it, and its releases by then."""

    at: datetime | None = None
    releases: frozenset[str] = frozenset()
    who: str = ""


_NEVER = Seen()


@dataclass
class Failures:
    """A group, and its jobs among those that were looked at, newest first."""

    group: Group
    headline: str  # of the newest one's error
    jobs: list[JobView] = field(default_factory=list)
    noted: Seen = _NEVER  # of jobs that may be gone: they were retried
    ignored: Seen | None = None

    @property
    def newest(self) -> JobView:
        return self.jobs[0]

    @property
    def first(self) -> datetime | None:
        return min(filter(None, (self.noted.at, *(job.latest for job in self.jobs))), default=None)

    @property
    def functions(self) -> list[tuple[str, int]]:
        return Counter(job.called for job in self.jobs).most_common(3)

    @property
    def releases(self) -> Counter[str]:
        """On which it failed, and how often of late."""
        found = Counter(job.release for job in self.jobs if job.release)
        found.update(dict.fromkeys(self.noted.releases, 0))
        return found

    @property
    def is_ignored(self) -> bool:
        return self.ignored is not None and self.releases.keys() <= self.ignored.releases

    def is_new(self, release: str) -> bool:
        """Whether it was only seen on this release."""
        return self.releases.keys() == {release}


@dataclass(frozen=True)
class Searched:
    """The groups, the largest first, and how many failed jobs they were made of."""

    groups: list[Failures]
    looked_at: int
    total: int
    is_all: bool


def find(
    redis: Redis, census: Census, *, key: str = "", release: str = "", is_far: bool = False
) -> Searched:
    """Group the newest failed jobs; a bounded number of them, of all queues."""
    on = {"release": (search.Exact(release),)} if release else {}
    wanted = Filter("", {"state": ("failed",), "group": ("*",), **on}, (), ())
    lists, found = wanted.lists(census), dict[Group, Failures]()
    at: Cursor | None = Cursor()
    for _ in search.turns(is_far):
        if at is not None:
            jobs, at = search.window(redis, lists, wanted, at, search.WINDOW)
            _group(found, census, jobs, key)
    looked_at, total = search.progress(lists, at)
    groups = [*found.values()]
    for one, noted in zip(groups, _noted(redis, [one.group.key for one in groups]), strict=True):
        one.noted = noted
    return Searched(sorted(groups, key=lambda one: -len(one.jobs)), looked_at, total, at is None)


def newest(census: Census, jobs: Iterable[JobView], most: int) -> list[Failures]:
    """The groups of those of `jobs` that failed, read with their errors, the latest first."""
    found = dict[Group, Failures]()
    _group(found, census, jobs)
    return [one for one in found.values() if not one.is_ignored][:most]


def _group(
    found: dict[Group, Failures], census: Census, jobs: Iterable[JobView], key: str = ""
) -> None:
    """Add those that failed to their groups; what was stopped is no failure.  With a `key`, only to
    that one; its first SHOWN are kept as they are, all others without what takes memory.
    """
    for job in jobs:
        if job.state != "failed":
            continue
        group = job.group
        if key not in ("", group.key):
            continue
        if group not in found:
            headline = tracebacks.headline(job.error)
            ignored = _read(census.ignored.get(group.key.encode()))
            found[group] = Failures(group, headline, ignored=ignored)
        of_group = found[group].jobs
        is_whole = key and len(of_group) < SHOWN
        of_group.append(job if is_whole else replace(job, function=job.called, **_LEFT_OUT))


def ignore(redis: Redis, one: Failures, who: str, live: Iterable[str]) -> None:
    """Hide a group until it fails on a release that is not among these; raises WrongArguments."""
    if (values.answer(redis.hlen, keys.IGNORED) or 0) >= MOST_IGNORED:
        raise WrongArguments(f"{MOST_IGNORED:,} groups are ignored already; show one again first.")
    redis.hset(keys.IGNORED, one.group.key, _written({*one.releases, *live}, clock.now(), who))


def stop_ignoring(redis: Redis, key: str) -> bool:
    """Show it again; False if it was not ignored."""
    return redis.hdel(keys.IGNORED, key) == 1


def note(redis: Redis, key: str, jobs: Sequence[JobView]) -> None:
    """Remember since when and on which releases a group failed, before its jobs are retried."""
    [noted] = _noted(redis, [key])
    first = min(filter(None, (noted.at, *(job.latest for job in jobs))), default=None)
    releases = {*noted.releases, *(job.release for job in jobs if job.release)}
    if jobs:
        redis.set(keys.seen_failures(key), _written(releases, first), ex=_NOTED_S)


def _noted(redis: Redis, names: Sequence[str]) -> list[Seen]:
    stored: Any = redis.mget([keys.seen_failures(name) for name in names]) if names else []
    return [_read(raw) or _NEVER for raw in stored]


def _written(releases: set[str], at: datetime | None, who: str = "") -> str:
    known = sorted(releases)[-_MOST_RELEASES:]
    return json.dumps({"at": at and at.timestamp(), "releases": known, "who": who})


def _read(raw: bytes | None) -> Seen | None:
    """What `_written` wrote; None for nothing, and for what is odd."""
    with suppress(NotShown):
        match values.value(raw or b""):
            case {"at": float() | None as at, "releases": list(releases), "who": str(who)}:
                known = frozenset(map(str, releases))
                return Seen(values.due(at), known, values.clip(who, 200))
    return None
