"""`jiffy worker` and `python worker.py`: run jobs."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from redis import Redis

from jiffy.cli import Command, run
from jiffy.errors import InvalidValue
from jiffy.producer import project
from jiffy.settings import is_reference, settings

if TYPE_CHECKING:
    from jiffy.hooks import Hooks

_WITH_SCHEDULER = "--with-scheduler"


def run_worker(hooks: "Hooks | None" = None, words: Sequence[str] | None = None) -> None:
    """Run jobs inside `hooks` until a signal, as `jiffy worker` does, with the words typed."""
    if code := run(command, words, given=hooks):
        sys.exit(code)


class _Worker(Command):
    """What follows --with-scheduler is a schedule if it looks like one, else a queue."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [
            f"{word}=" if word == _WITH_SCHEDULER and not is_reference(next_word) else word
            for word, next_word in zip(args, [*args, ""][1:], strict=True)
        ]
        return super().parse_args(ctx, words)


@click.command(
    cls=_Worker,
    epilog="-n 4 high default low\n--with-scheduler scheduler:SCHEDULE\n--burst low",
)
@click.argument("queues", nargs=-1)
@click.option("-n", type=int, metavar="N", help="Run N jobs at a time (default: WORKERS)")
@click.option("--burst", is_flag=True, help="Stop when the queues are empty")
@click.option("--max-jobs", type=int, metavar="N", help="Stop each worker after N jobs")
@click.option("--max-idle-time", type=int, metavar="S", help="Stop after S seconds without a job")
@click.option(
    _WITH_SCHEDULER, metavar="[SCHEDULE]", help="Also do what `jiffy scheduler [SCHEDULE]` does"
)
@click.option(
    "--reload", "reloads", is_flag=True, help="Run the jobs' new code when one of its files changes"
)
@click.pass_obj
def command(
    hooks: "Hooks | None", /, n: int | None, with_scheduler: str | None, **options: Any
) -> None:
    """Run jobs.  The queue named first is served first (default: high default low)."""
    from jiffy.worker.rq_worker import run_workers

    if n is not None and n < 1:
        raise InvalidValue("-n", n, "1 or more")
    project.check_packages(settings().jobs_modules)  # before a private Redis is started
    prepare = None if with_scheduler is None else partial(_scheduler, with_scheduler)
    run_workers(n or settings().workers, prepare=prepare, hooks=hooks, **options)


def _scheduler(reference: str, redis: Redis) -> Callable[[], int]:
    from jiffy.scheduler import entry, loop

    entries = entry.read(project.schedule(reference), reference or "scheduler.py")
    return loop.companion(entries, redis)
