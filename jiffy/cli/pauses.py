"""`jiffy pause`, `resume` and `paused`: let workers start no job of a queue or a function."""

from typing import Any

import click

from jiffy import clock, pauses, redis_io
from jiffy.cli import Command

_kind = click.argument("kind", type=click.Choice(["queue", "function"]))
_name = click.argument("name")


@click.command(
    cls=Command,
    epilog="queue low --why 'the disk is full'\nfunction jobs.images.resize --why bug --until 2h",
)
@_kind
@_name
@click.option("--why", required=True, metavar="TEXT", help="The reason, shown wherever it matters")
@click.option("--until", metavar="WHEN", help="2h, or a time with its zone (default: `resume`)")
@click.option("--who", default=pauses.user, metavar="NAME", help="Your name (default: the user)")
def pause(kind: str, name: str, **reason: Any) -> None:
    """Let workers start no more jobs of a queue, or of a function (by its path)."""
    pauses.pause(**{kind: name}, **reason)
    click.echo(f"{name} is paused.")


@click.command(cls=Command, epilog="queue low\nfunction jobs.images.resize")
@_kind
@_name
def resume(kind: str, name: str) -> None:
    """End a pause."""
    was_paused = pauses.resume(**{kind: name})
    click.echo(f"{name} is resumed." if was_paused else f"{name} was not paused.")


@click.command(cls=Command, epilog="--redis-url redis://localhost:6379/0")
def paused() -> None:
    """Show what is paused, by whom, and why."""
    for one in pauses.read_pauses(redis_io.connected("pauses")):
        end = f", until {one.until:%Y-%m-%d %H:%M:%S} UTC" if one.until else ""
        waiting = f" (waiting: {one.parked})" if one.parked else ""
        age = clock.in_words((clock.now() - one.since).total_seconds())
        click.echo(f"{one.kind} {one.name}{waiting}: by {one.who} {age} ago{end}: {one.why}")
