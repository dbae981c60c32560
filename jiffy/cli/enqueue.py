"""`jiffy enqueue` and `python enqueue.py`: put a job on a queue, and wait for it if asked to."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
from rq.job import JobStatus

from jiffy import clock, connection
from jiffy.cli import INTERRUPTED_EXIT_CODE, Command, each
from jiffy.errors import InvalidValue, did_you_mean, shortened
from jiffy.producer import enqueue as queues
from jiffy.producer import functions, results
from jiffy.producer import progress as job_progress
from jiffy.producer.enqueue import Job
from jiffy.producer.retry import Retry
from jiffy.settings import settings

_BAR_STEPS = 1000
_LOOK_FOR_WORKERS_S = 1
_NAMES = {"in": "in_", "id": "job_id", "no-rescue": "rescue"}  # what Python calls otherwise
_FLAGS = (
    ("queue", "NAME", "the queue (default: default)"),
    ("in", "5m", "run it that much later"),
    ("at", "TIME", "run it at that time, which has a zone: 2030-01-31T06:00:00+01:00"),
    ("timeout", "2m", "stop it when it runs longer"),
    ("result-ttl", "1h", "keep its result that long"),
    ("failure-ttl", "30d", "keep it that long if it failed"),
    ("ttl", "10m", "drop it if it has not begun by then"),
    ("expires", "10m", "cancel it, with the reason, if it has waited that long"),
    ("id", "ID", "the job's id; refused if taken"),
    ("unique", "1h", "so long, the same call is the same job"),
    ("unique-key", "KEY", "what makes it the same call (default: its arguments)"),
    ("unique-until", "STATE", "begun or done: unique no longer than that"),
    ("on-success", "PATH", "a function that the worker calls then"),
    ("on-failure", "PATH", "the same"),
    ("on-stopped", "PATH", "the same"),
    ("description", "TEXT", "shown in place of the call"),
)


def _flag(name: str, **more: Any) -> click.Option:
    return click.Option([f"--{name}", _NAMES.get(name, name.replace("-", "_"))], **more)


_PARAMETERS = [
    click.Argument(["function"], required=False),
    click.Argument(["arguments"], nargs=-1),
    *(_flag(name, metavar=metavar, help=meaning) for name, metavar, meaning in _FLAGS),
    _flag("retry", type=int, metavar="N", help="on failure try again, N times, with pauses"),
    _flag("pause", metavar="2s", help="the first pause (10s), doubled each time; 0: none"),
    _flag("depends-on", multiple=True, metavar="ID", help="once this job has finished"),
    _flag("at-front", flag_value=True, default=None, help="ahead of all that waits"),
    _flag(
        "no-rescue", flag_value=False, default=None,
        help="if its worker dies it fails, it never begins a second time",
    ),
    _flag(
        "each", metavar="FILE",
        help="a job for each line of a file, its first argument; - is stdin",
    ),
    _flag("wait", is_flag=True, help="show its progress and its result"),
]  # fmt: skip


class _Enqueue(Command):
    """What begins with a dash is an option that is known, a negative number, or stands after --."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True  # -3 is none
        known = {name for option in self.get_params(ctx) for name in option.opts}
        for word in args[: args.index("--")] if "--" in args else args:
            if re.match(r"-+[A-Za-z]", word) and word.partition("=")[0] not in known:
                raise click.UsageError(f"No option {word!r}{did_you_mean(word, known)}", ctx)
        return super().parse_args(ctx, args)


def _enqueue(function: str | None, arguments: Sequence[str], *, wait: bool, **given: Any) -> int:
    """Put a call of a function on a queue.

    ARGUMENTS are converted to the types in the function's signature; name=value is a keyword
    argument, if the function takes one of that name.
    """
    if function is None:
        raise click.UsageError("Say which function: jobs.numbers.add 2 3")
    called = functions.find(function, settings().jobs_modules)
    file = given.pop("each")
    with _in_flags():
        enqueue = queues.enqueue.options(**_options(is_one=file is None, **given))
    if file is not None:
        if wait:
            raise InvalidValue("--wait", "given", "left out with --each: it waits for one job")
        return each.enqueue_each(enqueue, called, arguments, file, given["job_id"])
    args, kwargs = functions.from_words(called, arguments)
    connection.check(connection.shared())
    began = clock.monotonic()
    job = enqueue(called, *args, **kwargs)
    took_ms = (clock.monotonic() - began) * 1000
    try:
        print(f"{job.id} on queue {job.origin}, dispatched in {took_ms:.1f} ms", flush=True)
        return _wait(job) if wait else 0
    except KeyboardInterrupt:
        sys.stderr.write(f"\nNo longer waiting. Job {job.id} goes on.\n")
        return INTERRUPTED_EXIT_CODE


command = _Enqueue(
    "enqueue", callback=_enqueue, help=_enqueue.__doc__, params=_PARAMETERS,
    epilog="jobs.images.resize photo.jpg 200 150 --queue low --wait\n"
    "jobs.numbers.add 2 y=-3 --in 5m --retry 3\n"
    "jobs.images.resize --each photos.txt 200 --id import-7",
)  # fmt: skip


def _options(
    *, is_one: bool, retry: int | None, pause: str | None, at: str | None, **given: Any
) -> dict[str, Any]:
    """The options of `enqueue.options`, of which the flags have the names."""
    found = {name: value for name, value in given.items() if value not in (None, ())}
    if pause is not None and retry is None:
        raise InvalidValue("pause", pause, "given with retry")
    if retry is not None:
        found["retry"] = retry if pause is None else Retry(max=retry, pause=pause)
    if at is not None:
        found["at"] = _moment(at)
    if not is_one:  # there it is what the ids begin with
        found.pop("job_id", None)
    return found


def _moment(text: str) -> datetime:
    try:
        return clock.read(text)
    except ValueError:
        must = "a time with its zone, such as 2030-01-31T06:00:00+01:00"
        raise InvalidValue("at", text, must) from None


@contextmanager
def _in_flags() -> Iterator[None]:
    """Let an error about an option speak of its flag."""
    try:
        yield
    except InvalidValue as error:
        others = r"(?<=given with )\w+|(?<=given without )\w+"
        must = re.sub(others, lambda other: _flag_of(other[0]), error.must)
        raise InvalidValue(_flag_of(error.name), error.value, must) from None


def _flag_of(option: str) -> str:
    name = {"job_id": "id", "max": "retry"}.get(option, option)
    return f"--{name.strip('_').replace('_', '-')}"


def _wait(job: Job) -> int:
    with _progress_of(job) as show:
        said = ""
        while (ending := results.follow(job, _LOOK_FOR_WORKERS_S, show)) is None:
            if (obstacle := results.obstacle(job)) and obstacle != said:
                below_the_bar = "\n" if sys.stderr.isatty() else ""
                sys.stderr.write(f"{below_the_bar}{obstacle} Still waiting.\n")
            said = obstacle
        if ending.status == JobStatus.FINISHED:
            show(job_progress.State(1, "done"))
    return _report(ending)


@contextmanager
def _progress_of(job: Job) -> Iterator[Callable[[job_progress.State], None]]:
    """Show progress as a bar that grows, or as lines where there is no terminal to draw it on."""
    if not sys.stderr.isatty():
        yield _ProgressLines()
        return
    with click.progressbar(
        length=_BAR_STEPS,
        label=job.id[:8],
        item_show_func=_note,
        update_min_steps=0,  # also where only the note has changed
        file=sys.stderr,
    ) as bar:
        bar.render_progress()

        def show(state: job_progress.State) -> None:
            steps = round((state.fraction or 0) * _BAR_STEPS)
            bar.update(max(0, steps - bar.pos), state.note)

        yield show


def _note(note: str | None) -> str:
    return "waiting" if note is None else note


class _ProgressLines:
    """A line for each new state."""

    def __init__(self) -> None:
        self._last: job_progress.State | None = None

    def __call__(self, state: job_progress.State) -> None:
        if state != self._last:
            percent = "" if state.fraction is None else f"{state.fraction:4.0%} "
            sys.stderr.write(f"{percent}{state.note}\n")
        self._last = state


def _report(ending: results.Ending) -> int:
    if ending.status == JobStatus.FINISHED:
        print(ending.value if isinstance(ending.value, str) else json.dumps(ending.value))
        return 0
    lines = shortened(ending.traceback) or [f"The job was {ending.status.value}."]
    sys.stderr.write("\n".join(lines) + "\n")
    return 1
