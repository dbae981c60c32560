"""What the API takes and answers, as types: they check requests, and its document shows them.

A docstring is the type's description, and its lines `name: …` are those of its fields.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import fields

from jiffy import json_types
from jiffy.control import bulk, entries
from jiffy.control.entries import Run
from jiffy.control.read import STATES, JobView, Slot
from jiffy.control.values import Moment

T = TypeVar("T", bound=Struct)

MOST_JOBS = 1000
_PATH = {"must": "a path, such as 'jobs.numbers.add', of at most 200 characters"}
_SHORT = {"must": "a string of 1 to 200 characters"}
_Short = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S", extra=_SHORT)]
_Path = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S", extra=_PATH)]
_Who = Annotated[_Short, Meta(description="Who asks for it: shown wherever it matters.")]
_Why = Annotated[_Short, Meta(description="Shown wherever it matters.")]
_WHEN = "When the pause ends by itself: '2h', or a time with its zone."
_Until = Annotated[_Short, Meta(description=_WHEN)]
_Queue = Annotated[_Short, Meta(description="Its name.")]
_Function = Annotated[_Path, Meta(description="Its path.")]
_FILTER = {"must": "a filter of at most 1,000 characters"}
_Filter = Annotated[str, Meta(max_length=1000, extra=_FILTER)]
_RATE = {"must": f"jobs a second, from {bulk.LOWEST_RATE} to {bulk.HIGHEST_RATE:,}"}
_Rate = Annotated[float, Meta(ge=bulk.LOWEST_RATE, le=bulk.HIGHEST_RATE, extra=_RATE)]
_COUNT = {"must": f"a whole number from 0 to {entries.MOST_SKIPPED}"}
_Count = Annotated[int, Meta(ge=0, le=entries.MOST_SKIPPED, extra=_COUNT)]
_Counts = Annotated[
    dict[str, Annotated[int, Meta(ge=0)]], Meta(extra_json_schema={"required": [*STATES]})
]


class Nothing(Struct, forbid_unknown_fields=True):
    """No fields."""


class Who(Struct, forbid_unknown_fields=True, kw_only=True):
    """Who asks for it."""

    who: _Who = "the API"


class PauseEntry(Who, forbid_unknown_fields=True, kw_only=True):
    """Why an entry is paused, and for how long."""

    why: _Why
    until: _Until | UnsetType = UNSET


class Resume(Struct, forbid_unknown_fields=True, kw_only=True):
    """A queue or a function: one of the two."""

    queue: _Queue | UnsetType = UNSET
    function: _Function | UnsetType = UNSET


class Pause(PauseEntry, forbid_unknown_fields=True, kw_only=True):
    """What to pause, a queue or a function; why, and for how long."""

    queue: _Queue | UnsetType = UNSET
    function: _Function | UnsetType = UNSET


class SkipEntry(Struct, forbid_unknown_fields=True):
    """How many of an entry's next runs to skip.

    count: 0 takes it back.
    """

    count: _Count = 1


class Call(Struct, forbid_unknown_fields=True):
    """A call of a function, with the options of `enqueue` beside these fields.

    function: Its path, under JOBS_MODULES.
    args: Its positional arguments.
    kwargs: Its keyword arguments.
    """

    function: _Path
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


Calls = Call | Annotated[list[Call], Meta(max_length=MOST_JOBS)]


class Bulk(Who, forbid_unknown_fields=True, kw_only=True):
    """What to do with all jobs that match a filter.

    action: Its states are those that allow it.
    filter: As on the page of jobs: 'state:failed fn:shop.charge'; 'queue:*' for every job.
    rate: Retry so many jobs a second, and stop when three of them fail again.
    """

    action: Literal["retry", "cancel", "delete"]
    filter: _Filter
    rate: _Rate | None = None


class FailureGroup(Struct):
    """Failed jobs with the same exception out of the same code.

    key: Its name in the filter: group:KEY.
    count: Of the failed jobs that were looked at, as are `first` and the releases.
    error: The line of the newest one that names the exception.
    where: The file and function of your own code.
    new: Whether it was only seen on the newest release that workers run.
    ignored_by: Who ignores it; it comes back when it fails on a new release.
    """

    key: str
    count: Annotated[int, Meta(ge=1)]
    error: str
    where: str
    first: Moment | None
    last: Moment | None
    functions: list[str]
    releases: list[str]
    new: bool
    ignored_by: str | None
    newest_job: str


class FailureGroups(Struct):
    """Groups of the newest failed jobs, the largest first.

    looked_at: So many failed jobs, of `total`, were looked at.
    left_out: What is not listed: the two hundred largest groups are.
    """

    groups: list[FailureGroup]
    looked_at: int
    total: int
    left_out: list[str]


class Function(Struct):
    """A function that can be enqueued.

    function: Its path.
    signature: As Python writes it.
    description: Its docstring.
    positional: The names of the parameters that `args` may give, in that order.
    parameters: The JSON Schema of its arguments by name, as `kwargs` gives them.
    """

    function: str
    signature: str
    description: str
    positional: list[str]
    parameters: dict[str, Any]


class Enqueued(Struct, omit_defaults=True):
    """A job that was enqueued.

    status_url: GET it for the job's state and result.
    taken: true for one of many whose id was taken: that job was left as it is.  So a POST of many
      jobs with ids can be repeated.  Also true where `unique` gave the job of an earlier call.
    """

    id: str
    queue: str
    status_url: str
    taken: bool = False


class Progress(Struct):
    """How far a running job is."""

    fraction: Annotated[float, Meta(ge=0, le=1)] | None
    note: str


class Times(Struct):
    """When a job reached each step."""

    created: Moment | None
    enqueued: Moment | None
    due: Moment | None
    started: Moment | None
    ended: Moment | None


class Job(Struct):
    """A job as it is now.

    state: RQ's word: queued, scheduled, deferred, ready_to_enqueue, rate_limited, started; once it
      is over finished, failed, stopped, canceled.
    function: Its path; null if it cannot be read.
    worker: The worker that claimed it last.
    result: What it returned; null until then.
    error: Its traceback, or, while it waits for a retry, that of its last try; or why it was
      canceled.
    reason: `error` in one line: the exception, its cause, and the place in your own code.
    waits_for: retry: it is scheduled to be retried at times.due, because it failed with `error`;
      time: it is scheduled; jobs: it is deferred until those of depends_on are over; slot: it is
      rate_limited until `slot` has a free one.
    retries_left: The tries that are left after the next, or the current, one; null: none.
    depends_on: The jobs that it depends on; for a part of a chain or group, those that it waits
      for now, 20 at most.
    meta: Its metadata; values whose names look like secrets are masked.
    problems: What cannot be shown of it, and the reason.
    """

    id: str
    state: str
    function: str | None
    description: str
    queue: str
    worker: str | None
    result: Any
    error: str | None
    reason: str | None
    waits_for: Literal["retry", "time", "jobs", "slot"] | None
    slot: Slot | None
    retries_left: int | None
    depends_on: list[str]
    progress: Progress | None
    meta: dict[str, Any]
    times: Times
    problems: list[str]


def job(view: JobView) -> Job:
    problems = [*view.problems]
    return _as(
        Job,
        view,
        result=_shown("result", view.result, None, problems),
        meta=_shown("meta", view.meta, {}, problems),
        progress=view.progress and _as(Progress, view.progress),
        times=_as(Times, view),
        problems=problems,
    )


def _as(kind: type[T], view: Any, **given: Any) -> T:
    """What is given, and the view's attributes of the other names; null, where allowed, for ""."""
    for field in fields(kind):
        if field.name not in given:
            value = getattr(view, field.name)
            is_null = value == "" and type(None) in get_args(field.type)
            given[field.name] = None if is_null else value
    return kind(**given)


def _shown(name: str, value: Any, otherwise: Any, problems: list[str]) -> Any:
    """The value; `otherwise`, and one more of the problems, if JSON cannot carry it."""
    error = json_types.not_json(value, depth=1000)
    if error is None:
        return value
    problems.append(f"{name} cannot be shown: {error}")
    return otherwise


class Queue(Struct):
    """A queue, its jobs and its workers.

    counts: The number of jobs in each state; stopped ones count as failed.
    workers: The number of workers that listen to it; quiet ones do not.
    """

    name: str
    counts: _Counts
    workers: int


class Queues(Struct):
    """All queues.

    apart: The number of jobs in each state that are on no queue's list: queued, if their function
      is paused; rate_limited; ready_to_enqueue.
    suspended: Whether `rq suspend` holds all workers.
    left_out: What is not counted: two thousand queues and workers are.
    """

    queues: list[Queue]
    apart: dict[str, Annotated[int, Meta(ge=0)]]
    suspended: bool
    left_out: list[str]


class Entry(Struct, rename={"is_of_table": "of_table", "words": "times", "next_at": "next"}):
    """An entry of the schedule.

    of_table: false: made through rq-scheduler's API, so it is only listed: it has no history, and
      is not paused, skipped or run from here.
    times: Its run times in words.
    next: The next one, also where `skip` or a pause lets that run be skipped; null: there is none.
    skip: The number of its next runs that will be skipped.
    history: Of an entry fetched by its name: its last 100 runs, newest first.
    """

    name: str
    is_of_table: bool
    call: str
    words: str
    queue: str
    next_at: Moment | None
    paused: entries.Paused | None
    skip: int
    last: Run | None
    history: list[Run] | UnsetType = UNSET


def entry(state: entries.State, history: Sequence[Run] | None = None) -> Entry:
    return _as(Entry, state, history=UNSET if history is None else [*history])


class Schedule(Struct):
    """The schedule.

    scheduler: Whether a scheduler runs; none: there is nothing to schedule.
    left_out: How many with a run to come are not listed: of all entries, a thousand are, those that
      run soonest first.
    """

    scheduler: Literal["ok", "away", "none"]
    entries: list[Entry]
    left_out: list[str]


class Problem(Struct):
    """Problem details (RFC 9457).

    detail: The error, and what to do.
    pointer: Where in the body: a JSON Pointer.
    """

    type: str
    title: str
    status: int
    detail: str
    pointer: str | UnsetType = UNSET


_RUN = """{"slot": "2030-01-31T06:00:00Z", "outcome": "finished", "late_ms": 2,
  "job": "nightly-20300131T060000Z", "duration_s": 1.5, "reason": null}"""
_ENTRY = f"""{{"name": "nightly", "of_table": true, "call": "jobs.reports.last_day('report.html')",
  "times": "cron '0 6 * * *' on the clock of Europe/Paris", "queue": "default", "paused": null,
  "next": "2030-02-01T06:00:00Z", "skip": 0, "last": {_RUN}}}"""
EXAMPLES = {
    Call: '{"function": "jobs.numbers.add", "args": [5, 3]}',
    PauseEntry: '{"why": "the importer is broken", "until": "2h", "who": "ada"}',
    Enqueued: """{"id": "mine", "queue": "default",
        "status_url": "https://example.com/api/jobs/mine"}""",
    Job: """{"id": "0b7c3f1e-5a55-4b0e-9a36-0f4a1a2b3c4d", "state": "finished", "queue": "default",
        "function": "jobs.numbers.add", "description": "jobs.numbers.add(5, 3)", "result": 8,
        "worker": "web.1-1", "error": null, "reason": null, "waits_for": null, "slot": null,
        "retries_left": null, "depends_on": [], "progress": null, "meta": {"order": 7},
        "times": {"created": "2030-01-31T06:00:00Z", "enqueued": "2030-01-31T06:00:00Z",
        "due": null, "started": "2030-01-31T06:00:00.000300Z",
        "ended": "2030-01-31T06:00:00.000400Z"}, "problems": []}""",
    Queues: """{"queues": [{"name": "default", "workers": 4, "counts": {"queued": 12, "started": 4,
        "scheduled": 0, "deferred": 0, "failed": 0, "finished": 0, "canceled": 0}}],
        "apart": {"rate_limited": 3}, "suspended": false, "left_out": []}""",
    Run: _RUN,
    Entry: _ENTRY,
    Schedule: f'{{"scheduler": "ok", "entries": [{_ENTRY}], "left_out": []}}',
    Problem: """{"type": "about:blank", "title": "Unprocessable Entity", "status": 422,
        "detail": "job 3: queue is ''; it must be the name of a queue.",
        "pointer": "#/2/queue"}""",
}
