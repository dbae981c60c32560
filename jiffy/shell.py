"""The command behind `python enqueue.py`: put a job on a queue, and wait for it if asked to."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

import click
from rq.job import JobStatus

from jiffy import clock, connection, functions, job_options, job_progress, results, shell_each
from jiffy.errors import InvalidValue, WrongArguments
from jiffy.program import in_one_line
from jiffy.queues import Enqueue, Job
from jiffy.retry import Retry
from jiffy.settings import settings

_LAST_LINES = 8
_BAR_STEPS = 1000
_INTERRUPTED_EXIT_CODE = 130
_NAMES = {"in": "in_", "id": "job_id"}  # what Python calls otherwise
_NO_RESCUE = "if its worker dies it fails, it never begins a second time"
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


def enqueue_command(enqueue: Enqueue, argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 where the job failed, 2 for a wrong call."""
    with in_one_line():
        asked = _parser().parse_intermixed_args(argv)
        if asked.function is None:
            raise WrongArguments(
                "Say which function: python enqueue.py jobs.numbers.add 2 3." + _HELP
            )
        function = functions.find(asked.function, settings().jobs_modules)
        with _in_flags():
            enqueue = enqueue.options(**_options(asked))
        if asked.each:
            return shell_each.enqueue_each(enqueue, function, asked)
        args, kwargs = functions.from_words(function, asked.arguments)
        connection.shared().ping()
        began = clock.monotonic()
        job = enqueue(function, *args, **kwargs)
        took_ms = (clock.monotonic() - began) * 1000
        try:
            print(f"{job.id} on queue {job.origin}, dispatched in {took_ms:.1f} ms", flush=True)
            return _wait(job) if asked.wait else 0
        except KeyboardInterrupt:
            sys.stderr.write(f"\nNo longer waiting. Job {job.id} goes on.\n")
            return _INTERRUPTED_EXIT_CODE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise WrongArguments(f"{message}.{_HELP}")


_HELP = " All about it: python enqueue.py --help"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python enqueue.py",
        usage="%(prog)s function [argument ...] [--option ...]",
        description="Put a call of a function on a queue.",
        epilog="Example: python enqueue.py jobs.images.resize photo.jpg 200 150 --queue low --wait",
    )
    parser.add_argument("function", nargs="?", help="its path, such as jobs.images.resize")
    parser.add_argument(
        "arguments",
        nargs="*",
        help="turned into the types of the function's signature; name=value goes by name, but to "
        "*args where nothing has that name",
    )
    for flag, metavar, meaning in _FLAGS:
        parser.add_argument(f"--{flag}", metavar=metavar, help=meaning)
    parser.add_argument("--retry", type=int, metavar="N", help="on failure try again, N times")
    parser.add_argument(
        "--backoff", metavar="2s", help="... after that long, then twice as long each time"
    )
    parser.add_argument(
        "--depends-on", action="append", metavar="ID", help="once this job has finished"
    )
    for flag, meaning in (("at-front", "ahead of all that waits"), ("no-rescue", _NO_RESCUE)):
        parser.add_argument(f"--{flag}", action="store_true", default=None, help=meaning)
    parser.add_argument(
        "--each",
        metavar="FILE",
        help="a job for each line of a file, its first argument; - is stdin",
    )
    parser.add_argument("--wait", action="store_true", help="show its progress and its result")
    return parser


def _options(asked: argparse.Namespace) -> dict[str, Any]:
    """The options of `enqueue.options`, of which the flags have the names."""
    given = {_NAMES.get(name, name): value for name, value in vars(asked).items()}
    found = {name: given[name] for name in job_options.NAMES if given.get(name) is not None}
    if asked.no_rescue:
        found["rescue"] = False
    if asked.backoff is not None:
        if asked.retry is None:
            raise InvalidValue("backoff", asked.backoff, "given with retry")
        found["retry"] = Retry(max=asked.retry, backoff=asked.backoff)
    if asked.at is not None:
        found["at"] = _moment(asked.at)
    if asked.each:  # there it is what the ids begin with
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
        must = re.sub(others, lambda other: _flag(other[0]), error.must)
        raise InvalidValue(_flag(error.name), error.value, must) from None


def _flag(option: str) -> str:
    name = {"job_id": "id", "max": "retry"}.get(option, option)
    return f"--{name.strip('_').replace('_', '-')}"


def _wait(job: Job) -> int:
    with _progress_of(job) as show:
        ending = results.wait(job, on_progress=show)
        assert ending is not None  # without a limit it waits for the end
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
    lines = ending.traceback.strip().splitlines() or [f"The job was {ending.status.value}."]
    sys.stderr.write("\n".join(lines[-_LAST_LINES:]) + "\n")
    return 1
