"""`jiffy enqueue … --each FILE`: a job for each line, in bulk, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

import click

from jiffy import clock, connection
from jiffy.cli import INTERRUPTED_EXIT_CODE
from jiffy.errors import InvalidValue
from jiffy.producer import bulk, functions
from jiffy.producer.enqueue import Enqueue


def enqueue_each(
    enqueue: Enqueue,
    function: functions.Function,
    words: Sequence[str],
    name: str,
    job_id: str | None,
) -> int:
    """Enqueue a call for each line, which is its first argument; return the exit code.

    With `--id import-7` the ids are import-7-1, import-7-2, …: typed again after an interruption,
    what is there already is passed over.
    """
    connection.check(connection.shared())
    began, done = clock.monotonic(), 0
    ids = None if job_id is None else (f"{job_id}-{number}" for number in count(1))
    with _opened(name) as (lines, length), _bar(length) as show:

        def tell(number: int) -> None:
            nonlocal done
            done = number
            show(number)

        calls = (_call(function, line, words) for line in lines)
        try:
            jobs = enqueue.many(function, calls, job_ids=ids, on_progress=tell)
        except KeyboardInterrupt:
            sys.stderr.write(f"\nInterrupted. {done:,} jobs are enqueued.\n")
            return INTERRUPTED_EXIT_CODE
    took = clock.in_words(clock.monotonic() - began)
    there = f", {len(jobs.ids_taken):,} of them were there already" if jobs.ids_taken else ""
    sys.stdout.write(f"{len(jobs):,} jobs on queue {jobs.queue} in {took}{there}\n")
    return 0


def _call(function: functions.Function, line: str, words: Sequence[str]) -> bulk.Both:
    args, kwargs = functions.split(function, words)
    return bulk.Both(*functions.from_texts(function, [line, *args], kwargs))


@contextmanager
def _opened(name: str) -> Iterator[tuple[Iterator[str], int | None]]:
    """The lines that are not empty, and how many there are if that is known."""
    if name == "-":
        yield _lines(sys.stdin.buffer), None
        return
    try:
        with Path(name).open("rb") as file:
            length = sum(1 for _ in _lines(file))
            file.seek(0)
            yield _lines(file), length
    except OSError as error:
        must = f"a file that can be read ({error.strerror})"
        raise InvalidValue("--each", name, must) from None


def _lines(file: IO[bytes]) -> Iterator[str]:
    # Names of files may be any bytes.
    lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in file)
    return (line for line in lines if line)


@contextmanager
def _bar(length: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many there are so far, at a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
    elif length is None:
        yield lambda number: click.echo(f"\r{number:,} jobs", nl=False, err=True)
        click.echo(err=True)
    else:
        with click.progressbar(length=length, show_pos=True, file=sys.stderr) as bar:
            yield lambda number: bar.update(number - bar.pos)
