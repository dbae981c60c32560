"""Which jobs a filter means, and a bounded search for them, newest first.

A filter is what stands in the box and in the URL: `fn:shop.* state:failed slower:2s args.order_id:7
declined`.  A search looks at one window of each queue's lists at a time and says how far it came.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import chain, repeat
from typing import Any, NamedTuple

from redis import Redis

from jiffy import clock, keys
from jiffy.control import read
from jiffy.control.read import Census, JobView
from jiffy.errors import InvalidValue, JiffyError, did_you_mean
from jiffy.producer import functions
from jiffy.producer.masking import Masked
from jiffy.settings import settings

FIELDS = ("fn", "state", "queue", "worker", "error", "release", "group", "id", "after", "before",
          "slower")  # fmt: skip
NAMES = ("queue", "fn", "worker", "release")  # in quotes, exactly these
STATES = (*read.STATES, *read.APART, "stopped")
SHOWN = 50  # of a page
WINDOW = 500  # jobs that are looked at in a few round trips
TIMES = ("after", "before", "slower")
MOST_CHARS, _MOST_VALUES = 1000, 30
_MOST_PATTERNS = 3  # with a *, of arguments: each is tried with every value of a call
FAR, FAR_S = 20, 5.0  # windows, and for how long, if a person asks to search further
_far = threading.BoundedSemaphore(2)  # how many do so at once in a process
_TERM = re.compile(r'(?:([a-z]+|args\.[\w.-]+):)?("(?:[^"]|"")*"?|\S+)')
_QUOTED = re.compile('"((?:[^"]|"")*)"?')
_PLAIN = re.compile('[^\\s",*]+')  # needs no quotes to stand for itself
_WORDS = {"waiting": "queued", "running": "started", "ready": "ready_to_enqueue"}
_NO_OPERATOR = (
    "{0} is no operator: all terms must match, and commas stand between alternatives, as in "
    'state:failed,stopped; in quotes, "{0}" is text'
)
_NEVER = datetime.min.replace(tzinfo=UTC)


class Cursor(NamedTuple):
    """How far a search has come; as a string, "500.0.50", it stands in the URL."""

    depth: int = 0  # into each list
    part: int = 0  # of the lists, where there are too many for one window
    skip: int = 0  # of the window's matches

    @classmethod
    def read(cls, written: str) -> "Cursor":
        """The beginning, for what is no cursor."""
        is_one = re.fullmatch(r"\d{1,9}\.\d{1,6}\.\d{1,6}", written)
        return cls(*map(int, written.split("."))) if is_one else cls()

    def __str__(self) -> str:
        return ".".join(map(str, self))


class Exact(str):
    """A name in quotes, in which * stands for itself: the whole name, not a part of it."""

    __slots__ = ()


def exactly(name: str) -> str:
    """A queue's name as the value of a field: it adds no other term, and means this one alone."""
    return name if _PLAIN.fullmatch(name) else quoted(name)


def quoted(name: str) -> str:
    """The same for one of NAMES whose part is enough without quotes."""
    return '"' + name.replace('"', '""') + '"'


class List(NamedTuple):
    """Jobs that are in one state; of one queue, unless it is apart."""

    state: str
    key: str
    size: int
    is_apart: bool = False


@dataclass(frozen=True)
class Filter:
    """Each field's values are alternatives; a job must match one of every field, and every word."""

    text: str
    fields: dict[str, tuple[str, ...]]
    words: tuple[str, ...]
    problems: tuple[str, ...]

    def lists(self, census: Census) -> list[List]:
        """Those in which matching jobs can be."""
        states = {"failed" if state == "stopped" else state for state in self.states}
        named = self.fields.get("queue", ("*",))
        of_queues = [
            List(state, keys.jobs_in(state, queue.name), size)
            for queue in census.queues
            if any(_fits(one, queue.name) for one in named)
            for state, size in queue.counts.items()
            if size and (not states or state in states)
        ]
        apart = [List(*one, True) for one in census.apart if not states or one[0] in states]
        return of_queues + apart

    def within(self, states: Sequence[str]) -> "Filter":
        """The same for jobs in these states only."""
        kept = [state for state in self.states or states if state in states]
        return replace(self, fields={**self.fields, "state": tuple(kept) or ("none",)})

    @property
    def rest(self) -> "Filter":
        """The same for jobs in any state."""
        terms = (found[0] for found in _TERM.finditer(self.text))
        return parse(" ".join(term for term in terms if not term.startswith("state:")))

    def counts(self, census: Census) -> dict[str, int | None]:
        """How many jobs of each state match; None where only a search can tell."""
        found, searched = Counter(dict.fromkeys(read.STATES, 0)), set[str]()
        for one in self.lists(census):
            if one.is_apart and self.fields:
                searched.add(one.state)
            else:
                found[one.state] += one.size
        if self.words or not self.fields.keys() <= {"queue"}:
            searched.update(found)
        return {state: None if state in searched else found[state] for state in found}

    @property
    def states(self) -> list[str]:
        return [_WORDS.get(state, state) for state in self.fields.get("state", ())]

    def is_plain(self, lists: Sequence[List]) -> bool:
        """Whether all jobs of these lists, which are its own, match."""
        if "stopped" in self.states and "failed" not in self.states:  # these have the same list
            return False
        is_of_queues = not any(one.is_apart for one in lists)
        return not self.words and self.fields.keys() <= {"state", "queue" if is_of_queues else ""}

    @property
    def ids(self) -> list[str]:
        """What may be the whole id of a job, and is looked up at once."""
        return [*self.fields.get("id", ()), *(self.words if len(self.words) == 1 else ())]

    def matches(self, job: JobView) -> bool:
        return (
            all(
                any(_MATCHES[name](value, job) for value in values)
                for name, values in self.fields.items()
                if name in _MATCHES
            )
            and all(
                any(
                    word.lower() in text.lower()
                    for text in (job.id, job.description, job.called, job.arguments, job.error)
                )
                for word in self.words
            )
            and _has_arguments(self.arguments, job)
        )

    @cached_property
    def arguments(self) -> dict[str, tuple[str, ...]]:
        """The values that an argument of this name, or a value within one, may have."""
        named = ((name.partition(".")[2], values) for name, values in self.fields.items())
        return {name: tuple(map(str.lower, values)) for name, values in named if name}


def parse(written: str, asked: datetime | None = None) -> Filter:
    """What a person wrote, who `asked` then, or now: so long ago counts from that moment.

    What cannot be understood is named in `problems`, and left out.
    """
    fields: dict[str, tuple[str, ...]] = {}
    terms, problems = _terms(written)
    words = []
    for name, raw in terms:
        value, *_ = values = _values(name, raw)
        if not any(values):
            problems.append(f"{name}: has no value")
        elif name in TIMES:
            try:
                if name == "slower":
                    clock.seconds(value)
                else:
                    value = _moment(value, asked or clock.now()).isoformat()
                fields[name] = (value,)
            except InvalidValue:
                must = "such as 2h, or 2026-01-31T06:00" if name != "slower" else "such as 2s"
                problems.append(f"{name}:{value} is not understood: write a time {must}")
        elif raw in ("AND", "OR", "NOT") and not name:
            problems.append(_NO_OPERATOR.format(raw))
        elif name in FIELDS or name.startswith("args."):
            fields[name] = (*fields.get(name, ()), *values)
        else:
            words.append(f"{name}:{value}" if name else value)
    for state in set(fields.get("state", ())) - {*STATES, *_WORDS}:
        problems.append(f"state:{state} is no state: {', '.join(STATES)}")
    return Filter(written, fields, tuple(words), tuple(problems))


def _terms(written: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The names and values of a filter; and whether it is too large, or which names are none."""
    if len(written) > MOST_CHARS:
        return [], [f"the filter is over {MOST_CHARS:,} characters"]
    terms = _TERM.findall(written)
    # Each of them is looked for in all that a job carries.
    if len(terms) + sum(raw.count(",") for _, raw in terms) > _MOST_VALUES:
        return [], [f"the filter has over {_MOST_VALUES} words and values"]
    if sum(name.startswith("args.") and "*" in raw for name, raw in terms) > _MOST_PATTERNS:
        return [], [f"the filter has over {_MOST_PATTERNS} values with * for arguments"]
    unknown = {
        name: f"{name}: is no field{near}; put it in quotes if it is text"
        for name, _ in terms
        if name and name not in FIELDS and (near := did_you_mean(name, FIELDS))
    }
    return [one for one in terms if one[0] not in unknown], [*unknown.values()]


def _values(name: str, raw: str) -> list[str]:
    """The alternatives of a term; what is quoted is one."""
    if whole := _QUOTED.fullmatch(raw):
        value = whole[1].replace('""', '"')
        return [Exact(value) if name in NAMES else value]
    value = raw.strip('"')
    parts = value.split(",") if name in ("state", "queue", "fn") else [value]
    # An empty one, as in "fn:a, fn:b", would match every function.
    return [one for one in parts if one] or [""]


def _moment(written: str, asked: datetime) -> datetime:
    """A time, in UTC unless it says otherwise, or so long before `asked`."""
    try:
        moment = clock.read(written)
    except ValueError:
        return asked - timedelta(seconds=clock.seconds(written))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _like(pattern: str, value: str) -> bool:
    """With * as a wildcard; without, a part of it is enough, but for what is in quotes."""
    if isinstance(pattern, Exact):
        return pattern == value
    if "*" in pattern:
        return _fits(pattern.lower(), value.lower())
    return pattern.lower() in value.lower()


def _fits(pattern: str, value: str) -> bool:
    """Whether `value` is what `pattern` says, where * stands for anything; in linear time."""
    first, *others = [pattern] if isinstance(pattern, Exact) else pattern.split("*")
    if not others:
        return value == pattern
    *middle, last = others
    at = len(first)
    if not value.startswith(first):
        return False
    for part in middle:
        at = value.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(value) - at >= len(last) and value.endswith(last)


_MATCHES: dict[str, Callable[[str, JobView], bool]] = {
    "fn": lambda value, job: _like(value, job.called),
    "state": lambda value, job: (
        job.state == _WORDS.get(value, value) or (value, job.state) == ("failed", "stopped")
    ),
    "queue": lambda value, job: _fits(value, job.queue),
    "worker": lambda value, job: _like(value, job.worker),
    "error": lambda value, job: _like(value, job.error),
    "release": lambda value, job: _like(value, job.release),
    "group": lambda value, job: value in ("*", job.group.key),
    "id": lambda value, job: _like(value, job.id),
    "after": lambda value, job: (job.latest or _NEVER) >= clock.read(value),
    "before": lambda value, job: (job.latest or _NEVER) < clock.read(value),
    "slower": lambda value, job: (job.ran_s or 0) >= clock.seconds(value),
}


def _has_arguments(wanted: dict[str, tuple[str, ...]], job: JobView) -> bool:
    """Whether each of these names has one of its values; a call is gone through once for all."""
    if not wanted:
        return True
    left, written = list[tuple[str, Any]](), {name: set[str]() for name in wanted}
    if job.call:
        names = chain(_positional(job.call.function), repeat(""))
        left = [*job.call.kwargs.items(), *zip(names, job.call.args, strict=False)]
    while left:
        name, found = left.pop()
        if isinstance(found, dict | list):
            left += found.items() if isinstance(found, dict) else ((name, one) for one in found)
        elif name in written and type(found) is not Masked:
            text = found if isinstance(found, str) else json.dumps(found)
            written[name].add(text.lower())
    return all(
        any(value in written[name] or _fits_one(value, written[name]) for value in values)
        for name, values in wanted.items()
    )


def _fits_one(pattern: str, found: set[str]) -> bool:
    return "*" in pattern and any(_fits(pattern, one) for one in found)


@lru_cache(maxsize=1000)
def _positional(path: str) -> tuple[str, ...]:
    """The names of a function's positional parameters; none where it cannot be imported here."""
    with suppress(JiffyError):
        found = functions.plan(functions.find(path, settings().jobs_modules))
        return tuple(one.name for one in found.positional)
    return ()


@dataclass(frozen=True)
class Found:
    """Some of the matching jobs, newest first, and how far the search came."""

    jobs: list[JobView]
    searched: int  # so many jobs have been looked at, from the newest on
    total: int  # so many there are where matching ones can be
    next: Cursor | None  # None: there are no more


def search(
    redis: Redis, census: Census, wanted: Filter, cursor: Cursor, *, is_far: bool = False
) -> Found:
    """The next SHOWN matches: of one window, or of the next ones that has any."""
    lists = wanted.lists(census)
    at: Cursor | None = cursor
    matches: list[JobView] = []
    for _ in turns(is_far):
        if at is None or matches:
            break
        cursor = at
        # Where all match, no more are read than are shown.
        newest = cursor.skip + SHOWN + 1 if wanted.is_plain(lists) else None
        matches, at = window(redis, lists, wanted, cursor, newest=newest)
    shown = matches[cursor.skip : cursor.skip + SHOWN]
    if len(matches) > cursor.skip + SHOWN:
        at = cursor._replace(skip=cursor.skip + SHOWN)
    return Found(shown, *progress(lists, at), at)


def turns(is_far: bool) -> Iterator[int]:
    """One number for each window that may be looked at: the first, or FAR in FAR_S.

    Others who search far at the same time look at the first only: they would take all threads.
    """
    ends_at, is_far = clock.monotonic() + FAR_S, is_far and _far.acquire(blocking=False)
    try:
        for number in range(FAR if is_far else 1):
            yield number
            if clock.monotonic() >= ends_at:
                break
    finally:
        if is_far:
            _far.release()


def progress(lists: Sequence[List], at: Cursor | None) -> tuple[int, int]:
    """How many jobs a search has looked at that goes on at `at`, and of how many."""
    total = sum(one.size for one in lists)
    if at is None:
        return total, total
    return sum(min(one.size, at.depth) for one in lists) + at.skip, total


def window(
    redis: Redis,
    lists: Sequence[List],
    wanted: Filter,
    cursor: Cursor,
    shown: int = SHOWN,
    newest: int | None = None,
) -> tuple[list[JobView], Cursor | None]:
    """The matches among the next few jobs of each list, newest first, and where to go on.

    `shown` is how many are of use: where nearly all match, no more are read.  With `newest`, only
    so many of them are returned.
    """
    live = [one for one in lists if one.size > cursor.depth]
    part = live[cursor.part * WINDOW : (cursor.part + 1) * WINDOW]
    if not part and not wanted.ids:
        return [], None
    count, left = WINDOW, WINDOW
    for place, size in enumerate(sorted(one.size - cursor.depth for one in live)):
        count = max(1, left // (len(live) - place))
        if size > count:
            break
        left -= size  # what a short list leaves goes to the longer ones
    if wanted.is_plain(lists):
        count = min(count, shown)
    due = read.members(redis, [one[:2] for one in part], cursor.depth, count)
    named = wanted.ids if cursor[:2] == (0, 0) else []
    ids = list(dict.fromkeys([*due, *named]))
    found = read.jobs(redis, ids, with_errors=True, newest=newest).values()
    jobs = [replace(job, due=due[job.id]) if due.get(job.id) else job for job in found]
    matches = sorted(
        filter(wanted.matches, jobs), key=lambda job: job.latest or _NEVER, reverse=True
    )
    if len(live) > (cursor.part + 1) * WINDOW:
        return matches, Cursor(cursor.depth, cursor.part + 1)
    deeper = cursor.depth + count
    return matches, Cursor(deeper) if any(one.size > deeper for one in live) else None
