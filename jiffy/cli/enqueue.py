"""`jiffy enqueue` and `python enqueue.py`: put a job on a queue, and wait for it if asked to."""

import json
import os
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import IO, Any

import click
from rq.job import JobStatus

from jiffy import clock, log, redis_io
from jiffy.cli import INTERRUPTED_EXIT_CODE, Command, echo
from jiffy.errors import InvalidValue, UnknownFunction
from jiffy.producer import enqueue as queues
from jiffy.producer import functions, options, results
from jiffy.producer import progress as job_progress
from jiffy.producer.enqueue import Both, Job
from jiffy.settings import settings
from jiffy.tracebacks import shortened

_BAR_STEPS = 1000
_LOOK_FOR_WORKERS_S = 1


def _flag(name: str, option: options.Option) -> click.Option:
    default = f" (default: {option.otherwise})" if option.otherwise and option.example else ""
    meaning = option.meaning.removeprefix("`False`: ")
    meaning = f"{meaning[0].upper()}{meaning[1:]}{default}".replace("`", "")
    kind: dict[str, Any] = {} if option.example else {"flag_value": name != "rescue"}
    return click.Option(
        [option.flag, name], help=meaning, metavar=option.example or None,
        multiple=name == "depends_on",
        type=int if name == "retry" else None,
        default=None, **kind,
    )  # fmt: skip


class _Enqueue(Command):
    """What begins with a dash is an option that is known, a negative number, or stands after --."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True  # -3 is none
        known = {name for option in self.get_params(ctx) for name in option.opts}
        for word in args[: args.index("--")] if "--" in args else args:
            if re.match(r"-+[A-Za-z]", word) and word.partition("=")[0] not in known:
                raise click.NoSuchOption(word.partition("=")[0], ctx=ctx)
        return super().parse_args(ctx, args)


@click.command(
    cls=_Enqueue,
    params=[_flag(name, option) for name, option in options.TABLE.items() if option.flag],
    epilog="jobs.numbers.add 2 3 --queue low --wait\n"
    "jobs.numbers.add 2 y=-3 --in 5m --retry 3\n"
    "seq 3 | {} jobs.numbers.add --each - 10 --id import-7",
)
@click.argument("function")
@click.argument("arguments", nargs=-1)
@click.option(
    "--pause", metavar="2s", help="The first pause before a retry, doubled each time (default: 10s)"
)
@click.option(
    "--each", "file", type=click.File("rb"), metavar="FILE",
    help="Enqueue a job for each line of a file, its first argument; - is stdin",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Show its progress and its result")
def command(
    function: str,
    arguments: Sequence[str],
    *,
    file: IO[bytes] | None,
    wait: bool,
    pause: str | None,
    **given: Any,
) -> int:
    """Put a call of a function on a queue.

    ARGUMENTS are converted to the types in the function's signature; name=value is a keyword
    argument, if the function takes one of that name.
    """
    called = _find(function)
    if wait and file:
        raise InvalidValue(
            "--wait", "given", "left out with --each: only one job can be waited for"
        )
    ids = None
    if file and given["job_id"]:
        start = given.pop("job_id")
        ids = (f"{start}-{number}" for number in count(1))
    if pause is not None:
        if given["retry"] is None:
            raise InvalidValue("--pause", pause, "used together with --retry")
        given["retry"] = {"max": given["retry"], "pause": clock.seconds(pause, "--pause")}
    chosen = {name: value for name, value in given.items() if value != ()}
    used = options.read(chosen, spell=lambda name: options.TABLE[name].flag)
    enqueue = queues.enqueue.options(**used)
    if file:
        return _enqueue_each(enqueue, called, arguments, file, ids)
    args, kwargs = functions.from_strings(called, *functions.split(called, arguments))
    queues.check_project()  # imports their module, which is not part of the time that is shown
    redis_io.check(redis_io.shared())
    began = clock.monotonic()
    job = enqueue(called, *args, **kwargs)
    took_ms = (clock.monotonic() - began) * 1000
    try:
        new = f" on queue {job.origin}, dispatched in {took_ms:.1f} ms"
        click.echo(f"{job.id}{new if job.is_new else ' is the job of the same call before'}")
        return _wait(job) if wait else 0
    except KeyboardInterrupt:
        click.echo(f"\nStopped waiting. Job {job.id} goes on.", err=True)
        return INTERRUPTED_EXIT_CODE


def _find(path: str) -> functions.Function:
    try:
        return functions.find(path, settings().jobs_modules)
    except UnknownFunction:
        queues.check_project(needs_jobs=True)  # maybe this is another folder
        raise


def _enqueue_each(
    enqueue: queues.Enqueue,
    function: functions.Function,
    words: Sequence[str],
    file: IO[bytes],
    ids: Iterator[str] | None,
) -> int:
    redis_io.check(redis_io.shared())
    args, kwargs = functions.split(function, words)
    # Names of files may be any bytes; what marks a file as UTF-8 belongs to no line.
    raw = (line.removeprefix(BOM_UTF8).rstrip(b"\r\n") for line in file)
    lines = (os.fsdecode(line) for line in raw if line)
    calls = (Both(*functions.from_strings(function, [line, *args], kwargs)) for line in lines)
    began, done = clock.monotonic(), 0

    def show(number: int) -> None:
        nonlocal done
        done = number
        if sys.stderr.isatty():
            click.echo(f"\r{done:,} jobs", nl=False, err=True)

    try:
        jobs = enqueue.many(function, calls, job_ids=ids, on_progress=show)
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. {done:,} jobs are enqueued.", err=True)
        return INTERRUPTED_EXIT_CODE
    took = clock.in_words(clock.monotonic() - began)
    if done and sys.stderr.isatty():
        click.echo(err=True)
    there = f"; {len(jobs.ids_taken):,} of them existed already" if jobs.ids_taken else ""
    click.echo(f"{len(jobs):,} jobs on queue {jobs.queue} in {took}{there}")
    return 0


def _wait(job: Job) -> int:
    from jiffy.control import read, why  # most who enqueue need none of these

    redis = redis_io.shared()

    def look() -> list[why.Reason]:
        """Why no worker claims the job as things are; none if one may, or has."""
        found, census = read.job(redis, job.id), read.census(redis)
        if not found or found.has_ended or (found.is_running and census.workers):
            return []
        return why.obstacles(found, census)

    with _progress() as show:
        shown = ""
        while (ending := results.follow(job, _LOOK_FOR_WORKERS_S, show)) is None:
            wrong = redis_io.patiently(redis, look)
            obstacle = next((f"{one.text} {one.remedy} `{one.command}`." for one in wrong), "")
            if obstacle and obstacle != shown:
                below_the_bar = "\n" if sys.stderr.isatty() else ""
                echo(f"{below_the_bar}{obstacle} Still waiting.", err=True)
            shown = obstacle
        unknown = results.problem(job, ending)
        if ending.status == JobStatus.FINISHED and not unknown:
            show(job_progress.State(1, "done"))
    if unknown:
        echo(f"The job {unknown}.", err=True)
        return 1
    if ending.status == JobStatus.FINISHED:
        echo(ending.value if isinstance(ending.value, str) else json.dumps(ending.value))
        return 0
    lines = shortened(ending.traceback) or [f"The job was {ending.status.value}."]
    echo("\n".join(lines), err=True)
    return 1


@contextmanager
def _progress() -> Iterator[Callable[[job_progress.State], None]]:
    """Show progress as a bar that grows, or as a line for each state where there is no terminal."""
    if not sys.stderr.isatty():

        @lru_cache(1)  # not the same twice in a row
        def print_line(state: job_progress.State) -> None:
            percent = "" if state.fraction is None else f"{state.fraction:4.0%} "
            echo(f"{percent}{state.note}", err=True)

        yield print_line
        return
    with click.progressbar(
        length=_BAR_STEPS, item_show_func=lambda note: note or "waiting", file=sys.stderr,
        update_min_steps=0,  # also where only the note has changed
    ) as bar:  # fmt: skip
        bar.render_progress()

        def draw(state: job_progress.State) -> None:
            steps = round((state.fraction or 0) * _BAR_STEPS)
            bar.update(max(0, steps - bar.pos), log.printable(state.note))

        yield draw
