"""`jiffy dev`: everything that a project runs, on this machine, until Ctrl-C."""

from pathlib import Path

import click

from jiffy.cli import Command
from jiffy.errors import MissingExtra

_SAMPLE = "jobs.numbers.add 2 3"


@click.command(
    cls=Command,
    epilog="\nshop.schedule:SCHEDULE\n--job 'shop.tasks.charge 21' --job 'shop.tasks.count'",
)
@click.argument("schedule", default="")
@click.option(
    "--job", "jobs", multiple=True, metavar="CALL", help="Enqueue this job, and show its result"
)
def command(schedule: str, jobs: tuple[str, ...]) -> int:
    """Run Redis, the dashboard, a worker, the scheduler and a sample job.

    It starts every line of the Procfile but `release`, and those of these parts that no line
    starts.  Settings in the file .env count, unless the environment has them.
    """
    try:
        from jiffy.dev import run
    except ModuleNotFoundError as error:
        raise MissingExtra("dev", error.name) from None
    sample = [_SAMPLE] if Path("jobs/numbers.py").exists() else []
    return run.run(schedule, jobs or sample)
