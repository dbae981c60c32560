"""An entry of the schedule: as SCHEDULE declares it, and as it is once checked.

Nothing here knows what time it is or where Redis is.
"""

import hashlib
import heapq
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import islice, pairwise, takewhile
from typing import Any, Literal, NamedTuple, Unpack, get_args
from urllib.parse import urlsplit

from jiffy import clock, keys
from jiffy.control import entries
from jiffy.cron_times import EPOCH, At, Cron, Every, Timing, in_utc
from jiffy.errors import (
    InvalidEntry,
    InvalidSchedule,
    InvalidValue,
    JiffyError,
    WrongArguments,
    did_you_mean,
)
from jiffy.producer import functions, options
from jiffy.producer.enqueue import enqueue
from jiffy.producer.masking import MASK
from jiffy.producer.recipe import Prepared

Missed = Literal["once", "skip", "all"]
Overlap = Literal["skip", "allow", "queue one", "replace"]

_URL = "a URL, such as https://example.com/hook"
# The end of a job is noticed up to a minute later; of one deleted by then, the outcome is unknown.
_KEPT_FOR_PING_S = 120
_UNIQUE = "left out: a run is enqueued once; for one job at a time use overlap='skip'"
# The options of a job that no entry has, and why.
_REFUSED = {
    "job_id": "left out: each run is a job with its own id",
    "in_": "left out: the entry says when",
    "at": "left out: the entry says when",
    "unique": _UNIQUE,
    "unique_key": _UNIQUE,
    "unique_until": _UNIQUE,
    "depends_on": "left out: a run waits for nothing but its time",
    "timezone": "left out: only cron(…) has one",
}
_JOB_OPTIONS = [name for name in options.TABLE if name not in _REFUSED]
_ONCE = ("start", "end", "repeat", "jitter", "overlap")  # what an entry that runs once has not
_OF_EACH_RUN = ("created_at", "enqueued_at", "status")  # in the hash of a job


class EntryOptions(options.Options, total=False):
    """What an entry may say beside its times; and the options of its jobs."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    name: str | None  # distinguishes entries of one function (default: its path)
    start: datetime | None  # no run before this; intervals count from it
    end: datetime | None  # no run after this
    repeat: int | None  # how many runs in all
    jitter: clock.Duration  # each run is enqueued up to so much later
    missed: Missed  # runs that no scheduler enqueued in time: one job, none, or a job each
    overlap: Overlap  # what to do while the job of the last run waits or runs
    on_missed: "str | functions.Function | None"  # a URL to POST to, or a function to enqueue
    ping: str | None  # a URL to GET when a job has succeeded; with /fail when it has not


@dataclass(frozen=True, repr=False)
class Line:
    """What SCHEDULE has, unchecked.  Never shown: it may hold passwords and secret URLs."""

    read_timing: Callable[[], Timing]
    function: functions.Function
    misplaced: tuple[object, ...]
    given: Mapping[str, Any]
    runs_once: bool = False


def every(
    interval: clock.Duration,
    func: functions.Function,
    *misplaced: object,
    **options: Unpack[EntryOptions],
) -> Line:
    """Enqueue `func(*args, **kwargs)` every `interval`: seconds, "90s", "1h30m" or a timedelta.

    The times are counted from midnight UTC of 1970-01-01, or from `start`: "10m" runs at :00, :10,
    :20 …, however long a job takes and however often the scheduler starts.  `overlap` is "skip"
    unless it is given.
    """
    return Line(partial(Every.read, interval), func, misplaced, {"overlap": "skip"} | options)


def cron(
    expression: str,
    func: functions.Function,
    *misplaced: object,
    timezone: str = "UTC",
    **options: Unpack[EntryOptions],
) -> Line:
    """Enqueue `func(*args, **kwargs)` by `expression`: minute, hour, day, month, weekday.

    With six fields, the first is the second.  It is read on the clock of `timezone`; `Cron` says
    what happens when that is changed.
    """
    return Line(partial(Cron.read, expression, timezone), func, misplaced, options)


def at(
    moment: datetime,
    func: functions.Function,
    *misplaced: object,
    **options: Unpack[EntryOptions],
) -> Line:
    """Enqueue `func(*args, **kwargs)` once, at `moment`: a datetime with a zone.

    If it is first declared after its time it is not enqueued; if its time passed while no scheduler
    ran, it is, unless `missed` is "skip".
    """
    return Line(partial(At.read, moment), func, misplaced, options, runs_once=True)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A checked line: when it runs, the job that each run is a copy of, and its policies."""

    name: str
    timing: Timing
    job: Prepared
    missed: Missed = "once"
    overlap: Overlap = "allow"
    jitter_s: float = 0
    repeat: int | None = None
    on_missed: str | functions.Function | None = field(default=None, repr=False)
    ping: str | None = field(default=None, repr=False)

    @cached_property
    def id(self) -> str:
        """The same at every start, so that a deploy finds the entry again."""
        return self.job.job_id

    def due(self, slot: datetime) -> datetime:
        """When the run of `slot` is enqueued: every scheduler, at every start, says the same."""
        if not self.jitter_s:
            return slot
        text = f"{self.id}:{slot.timestamp():.3f}".encode()
        share = int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48
        return slot + timedelta(milliseconds=int(share * self.jitter_s * 1000))

    def times_in_words(self) -> str:
        """Its times, and what of its policies is not usual."""
        usual = "skip" if isinstance(self.timing, Every) else "allow"
        words = [self.timing.in_words()]
        words += [f"overlap: {self.overlap}"] if self.overlap != usual else []
        words += [f"missed: {self.missed}"] if self.missed != "once" else []
        words += [f"jitter {clock.in_words(self.jitter_s)}"] if self.jitter_s else []
        words += [f"{self.repeat} times in all"] if self.repeat else []
        return ", ".join(words)

    def alerts_in_words(self) -> str:
        alerts = {"on_missed": self.on_missed, "ping": self.ping}
        return ", ".join(f"{name}: {shown(to)}" for name, to in alerts.items() if to)

    @cached_property
    def run_fields(self) -> dict[str, Any]:
        """The hash of each of its jobs, but for what differs from run to run."""
        fields = self.job.fields("") | {keys.TICK_OF_FIELD: self.name}
        if self.job.recipe.is_front:
            fields["enqueue_at_front"] = 1
        return {name: fields[name] for name in fields if name not in _OF_EACH_RUN}

    @cached_property
    def definition(self) -> dict[str, Any]:
        """What SCHEDULE says of it: it differs where the line does."""
        fields = dict(self.run_fields)
        fields["call"] = json.loads(fields.pop("data"))
        fields["name"] = fields.pop(keys.TICK_OF_FIELD)
        return fields | {
            "times": self.timing.in_words(), "missed": self.missed, "overlap": self.overlap,
            "jitter_s": self.jitter_s, "repeat": self.repeat,
        }  # fmt: skip

    @cached_property
    def definition_json(self) -> str:
        return json.dumps(self.definition, sort_keys=True)

    @cached_property
    def run_json(self) -> str:
        return json.dumps(self.run_fields)

    def projection(self, now: datetime) -> dict[str, Any]:
        """The hash that shows the entry to rq-scheduler's tools, and to our pages."""
        stock: dict[str, Any] = {}
        if isinstance(self.timing, Every):
            stock = {"interval": self.timing.interval_s}
        elif isinstance(self.timing, Cron):
            stock = {"cron_string": self.timing.expression}
        fields = self.run_fields
        times = {"name": self.name, "words": self.times_in_words()}
        return {
            **fields,
            keys.ENTRY_FIELD: self.definition_json,
            keys.POLICY_FIELD: json.dumps(times),
            keys.RUN_FIELD: self.run_json,
            "created_at": clock.rq_text(now.timestamp()),
            "status": "scheduled",
            "meta": json.dumps(self.job.recipe.options.get("meta", {}) | stock),
        }


def read(lines: Iterable[object], where: str = "scheduler.py") -> list[Entry]:
    """Check every line; return the entries.  Raises InvalidSchedule with all that is wrong."""
    if not isinstance(lines, Iterable) or isinstance(lines, str | Mapping):
        what = f"a list, such as [every(...)]; it is a {type(lines).__name__}"
        raise InvalidSchedule([JiffyError(f"{where}: SCHEDULE must be {what}.")])
    found: dict[str, tuple[int, Entry]] = {}
    wrong = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = _checked(line)
            if entry.id in found:
                of, twin = found[entry.id]
                alike = f", {twin.name!r}: dots and dashes are the same here"
                what = f"its name {entry.name!r} is that of entry {of}"
                what += "" if twin.name == entry.name else alike
                raise JiffyError(f"{what}; give one of them another, such as name='nightly'.")
            found[entry.id] = (number, entry)
        except JiffyError as error:
            wrong.append(InvalidEntry(where, number, str(error)))
    if wrong:
        raise InvalidSchedule(wrong)
    return [entry for _, entry in found.values()]


class SimulatedRun(NamedTuple):
    """A job to come: enqueued at `due`, which is its `slot` and what `jitter` adds; both in UTC."""

    due: datetime
    slot: datetime
    name: str  # of its entry
    function: str  # its path, such as "jobs.reports.weekly"
    queue: str


def simulate(schedule: Iterable[object], start: datetime, end: datetime) -> Iterator[SimulatedRun]:
    """The runs of `schedule` from `start` until before `end`, in order, worked out without Redis.

    It is as if the schedule were declared at `start` and a scheduler ran all the time: `repeat`
    counts from there, and no run is missed, paused or overlaps another.  Raises InvalidSchedule,
    and InvalidValue for a `start` or an `end` without a time zone.
    """
    first, last = in_utc(start, "start") - timedelta.resolution, in_utc(end, "end")

    def runs(entry: Entry) -> Iterator[SimulatedRun]:
        function, queue = entry.job.recipe.target.path, entry.job.recipe.queue
        for slot in islice(takewhile(last.__gt__, entry.timing.after(first)), entry.repeat):
            yield SimulatedRun(entry.due(slot), slot, entry.name, function, queue)

    return heapq.merge(*map(runs, read(schedule)))


def alert_arguments(name: str, slot: datetime, reason: str) -> tuple[str, str, str]:
    """What `on_missed` is called with."""
    return name, f"{slot.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", reason


def shown(receiver: str | functions.Function) -> str:
    """A receiver of alerts without what makes its URL a secret."""
    if not isinstance(receiver, str):
        return functions.path_of(receiver)
    parts = urlsplit(receiver)
    return f"{parts.scheme}://{parts.netloc}/{MASK}"


def _checked(line: object) -> Entry:
    if isinstance(line, list | tuple):
        raise JiffyError(f"it is a {type(line).__name__}; write *LIST to include its entries.")
    if not isinstance(line, Line):  # not shown: it may hold a password
        what = f"it is a {type(line).__name__}, not an entry"
        raise JiffyError(f"{what}; write every(...), cron(...) or at(...).")
    given, function = line.given, line.function
    args, kwargs = _arguments(line)
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise InvalidValue("function", function, "a function itself, such as numbers.add")
    name = given.get("name") or functions.path_of(function)
    given_to_jobs: Any = {**_job_options(line), "job_id": entries.entry_id_of(name)}
    job = enqueue.without_usual(_REFUSED).options(**given_to_jobs).prepare(function, args, kwargs)
    timing = line.read_timing().within(given.get("start"), given.get("end"))
    missed = _one_of("missed", given.get("missed", "once"), get_args(Missed))
    overlap = _one_of("overlap", given.get("overlap", "allow"), get_args(Overlap))
    if missed == "all" and overlap != "allow":
        raise InvalidValue("missed", missed, "given with overlap='allow': they come all at once")
    jitter_s = _jitter_s(given.get("jitter", 0), timing)
    repeat = given.get("repeat")
    if repeat is not None and (type(repeat) is not int or repeat < 1):
        raise InvalidValue("repeat", repeat, "how many runs in all, from 1")
    on_missed, ping = given.get("on_missed"), given.get("ping")
    _check_alerts(on_missed, ping, name, job)
    return Entry(
        name=name, timing=timing, job=job, missed=missed, overlap=overlap, jitter_s=jitter_s,
        repeat=repeat, on_missed=on_missed, ping=ping,
    )  # fmt: skip


def _arguments(line: Line) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    args, kwargs = line.given.get("args", ()), line.given.get("kwargs") or {}
    if line.misplaced:
        first, *others = line.misplaced
        written = [*first] if not others and isinstance(first, list | tuple) else line.misplaced
        raise InvalidValue("argument", first, f"written as args={[*written]!r}")
    if not isinstance(args, list | tuple):
        raise InvalidValue("args", args, f"a list, such as [{args!r}]")
    if not isinstance(kwargs, dict):
        raise InvalidValue("kwargs", kwargs, "a dict, such as {'days': 30}")
    return tuple(args), kwargs


def _job_options(line: Line) -> dict[str, Any]:
    own = [name for name in EntryOptions.__annotations__ if name not in options.TABLE]
    known = [*_JOB_OPTIONS, *(name for name in own if not line.runs_once or name not in _ONCE)]
    for name in sorted(set(line.given) - set(known)):
        if name in _REFUSED or name in _ONCE:
            must = _REFUSED.get(name, "left out: this entry runs once")
            raise InvalidValue(name, line.given[name], must)
        options.refuse_unknown([name], [*known, "timezone"])
    return {name: value for name, value in line.given.items() if name in _JOB_OPTIONS}


def _one_of(name: str, value: Any, known: Sequence[str]) -> Any:
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise InvalidValue(name, value, f"one of {', '.join(map(repr, known))}{hint}")
    return value


def _jitter_s(given: clock.Duration, timing: Timing) -> float:
    jitter_s = clock.seconds(given, "jitter")
    slots = islice(timing.after(EPOCH), 100 if jitter_s else 0)
    distances = [(later - sooner).total_seconds() for sooner, later in pairwise(slots)]
    shortest_s = min(distances, default=math.inf)
    if jitter_s >= shortest_s:
        must = f"shorter than the time between two runs, {clock.in_words(shortest_s)}"
        raise InvalidValue("jitter", given, must)
    return jitter_s


def _check_alerts(on_missed: object, ping: object, name: str, job: Prepared) -> None:
    if callable(on_missed):
        try:
            enqueue.prepare(on_missed, alert_arguments(name, clock.now(), "why"), {})
        except WrongArguments as error:
            passed = "the entry's name, the slot and the reason"
            raise WrongArguments(f"on_missed is called with {passed}: {error}") from None
    else:
        _check_url("on_missed", on_missed, f"a function, or {_URL}")
    _check_url("ping", ping, _URL)
    for option in ("result_ttl", "failure_ttl") if ping else ():
        kept_s = job.recipe.options.get(option)
        if kept_s is not None and 0 <= kept_s < _KEPT_FOR_PING_S:
            must = "2m or more beside a ping: the end of a job is noticed up to a minute later"
            raise InvalidValue(option, kept_s, must)


def _check_url(name: str, value: object, must: str) -> None:
    url = value if isinstance(value, str) else ""
    with suppress(ValueError):
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a ValueError if it is no number
        is_plain = url.isascii() and url.isprintable() and not set(url) & set(" @")
        if is_plain and parts.scheme in ("http", "https") and parts.hostname:
            return
    if value is not None:
        raise InvalidValue(name, MASK if url else value, must)
