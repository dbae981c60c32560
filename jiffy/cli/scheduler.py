"""`jiffy scheduler` and `python scheduler.py`: enqueue what comes due, and see to the entries."""

import json
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from redis import Redis

from jiffy import clock, keys, redis_io
from jiffy.cli import Command, echo, redis_url, run, use_redis
from jiffy.control import audit, entries, pauses
from jiffy.errors import WrongArguments, did_you_mean
from jiffy.hooks import checked
from jiffy.producer import functions, project
from jiffy.producer.enqueue import check_project
from jiffy.settings import settings

if TYPE_CHECKING:
    from jiffy.scheduler.entry import Entry, Line
    from jiffy.scheduler.state import Change

_TIMES_SHOWN = 5
# What SCHEDULE calls by another name than Redis does.
_NAMES = {"origin": "queue", "retries_left": "retry", "jitter_s": "jitter"}


def run_scheduler(schedule: "Sequence[Line]", words: Sequence[str] | None = None) -> None:
    """Do what `schedule` says until a signal, or what else was typed.

    An invalid entry ends the process before it starts, with exit status 2 and a line for each.
    """
    if code := run(command, words, given=(schedule,)):
        sys.exit(code)


class _Scheduler(click.Group):
    """What is none of its commands is the schedule to start, or an option of that."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args or ctx.resilient_parsing else [""])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if near := did_you_mean(args[0], self.commands):
            raise click.UsageError(f"No command {args[0]!r}{near}", ctx)
        return None, _start, args

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _start.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    format_epilog = Command.format_epilog


@click.group(
    cls=_Scheduler,
    subcommand_metavar="[SCHEDULE | COMMAND ...]",
    context_settings={"ignore_unknown_options": True},
    epilog="\n--check\nscheduler:SCHEDULE --dry-run\nlist\npause nightly --why 'the disk is full'",
)
@redis_url
def command() -> None:
    """Enqueue jobs when they are due.

    SCHEDULE is the module and the name of a list of entries (default: that of scheduler.py).
    """


@click.command(cls=Command)
@click.argument("reference", metavar="[SCHEDULE]", default="")
@click.option(
    "--check",
    is_flag=True,
    help="Show the schedule and its next times, and import the jobs; in production, also check "
    "the settings",
)
@click.option("--dry-run", is_flag=True, help="Show what a start would change, and exit")
@click.pass_obj
def _start(
    given: tuple[Sequence[object]] | None, reference: str, check: bool, dry_run: bool
) -> None:
    from jiffy.scheduler import entry

    if reference in command.commands:
        what = "--check and --dry-run are about the whole schedule"
        raise WrongArguments(f"{what}: leave out {reference!r}.")
    if check and dry_run:
        raise WrongArguments("--check and --dry-run: give one of them.")
    check_project(needs_jobs=check)
    schedule = given[0] if given and not reference else project.schedule(reference)
    found = entry.read(schedule, reference or "scheduler.py")
    if check:
        _check_processes()
        echo(_shown_schedule(found, clock.now()))
    elif dry_run:
        from jiffy.scheduler import state

        changes = state.differences(redis_io.connected("scheduler"), found)
        echo(_shown_changes(changes, found))
    else:
        from jiffy.scheduler import loop

        own = Path(sys.argv[0]).stem if given else "scheduler"
        loop.start(found, reference.partition(":")[0] or own)


def _check_processes() -> None:
    """Raise what would stop this project's processes; without their settings in development."""
    for module in settings().jobs_modules:
        deque(functions.load(module), 0)
    if settings().is_production:
        redis_io.connected("release")
        if (hooks := project.hooks(settings().hooks)) is not None:
            checked(hooks)
        if project.serves_dashboard():
            from jiffy.dashboard import web_app

            project.app(web_app)


_name = click.argument("name")
_who = click.option(
    "--who", default=pauses.user, metavar="NAME", help="Your name (default: the user)"
)


@command.command("list", cls=Command, epilog="\n")
@click.argument("redis", required=False, callback=use_redis, expose_value=False, is_eager=True)
def _list() -> None:
    """Show the entries, when they are due and how they went."""
    redis, rows = redis_io.connected("scheduler"), [("ENTRY", "NEXT (UTC)", "LAST", "TIMES")]
    for state in entries.read(redis):
        last = f"{state.last.outcome} {_shown(state.last.slot)}" if state.last else ""
        coming = _shown(state.next_at) if state.next_at else "no more runs"
        if state.paused:
            end = f" until {_shown(state.paused.until)}" if state.paused.until else ""
            coming = f"paused by {state.paused.who}{end}: {state.paused.why}"
        elif state.next_at and state.skip:
            coming += f", skips {state.skip}"
        rows.append((state.name, coming, last, state.words))
    echo(_aligned(rows))
    if len(rows) > 1 and not redis.exists(keys.LEADER):
        echo("No scheduler is running: none of them is enqueued.", err=True)


@command.command("history", cls=Command, epilog="nightly --limit 100")
@_name
@click.option("--limit", type=int, default=20, metavar="N", help="How many (default: 20)")
def _history(name: str, limit: int) -> None:
    """Show the last runs of an entry."""
    rows = [("SLOT (UTC)", "OUTCOME", "LATE", "TOOK", "JOB, OR WHY NONE")]
    for one in entries.history(redis_io.connected("scheduler"), name, limit):
        late = "" if one.late_ms is None else clock.in_words(one.late_ms / 1000)
        took = "" if one.duration_s is None else clock.in_words(one.duration_s)
        what = " ".join(filter(None, [one.job_id, one.reason]))
        rows.append((_shown(one.slot), one.outcome, late, took, what))
    echo(_aligned(rows))


@command.command("pause", cls=Command, epilog="nightly --why 'the disk is full' --until 2h")
@_name
@click.option("--why", required=True, metavar="TEXT", help="The reason, shown with the entry")
@click.option("--until", metavar="WHEN", help="2h, or a time with its zone (default: `resume`)")
@_who
def _pause(name: str, why: str, until: str | None, who: str) -> None:
    """Let an entry's runs be skipped."""
    on = f"{name} until={until} why={why}" if until else f"{name} why={why}"
    with _recorded("pause", on) as (redis, _):
        before = entries.find(redis, name).paused
        ends = entries.pause(redis, name, who=who, why=why, until=until)
    end = f"until {_shown(ends)} UTC" if ends else "until you resume it"
    echo(f"{name} is paused {end}.")
    if before:
        echo(f"This takes the place of the pause by {before.who}: {before.why}")


@command.command("resume", cls=Command, epilog="nightly")
@_name
def _resume(name: str) -> None:
    """End a pause."""
    with _recorded("resume", name) as (redis, entry):
        was_paused = entries.resume(redis, name)
        entry["on"] = f"{entry['on']}{'' if was_paused else f' done={audit.NOTHING}'}"
    echo(f"{name} is resumed." if was_paused else f"{name} was not paused.")


@command.command("run", cls=Command, epilog="nightly")
@_name
@_who
def _run(name: str, who: str) -> None:
    """Enqueue a job of an entry now."""
    with _recorded("run", name) as (redis, entry):
        job_id = entries.run_now(redis, name, who)
        entry["on"] = f"{entry['on']} job={job_id}"
    echo(f"{job_id} is enqueued.")


@command.command("skip", cls=Command, epilog="nightly --count 2")
@_name
@click.option("--count", type=int, default=1, metavar="N", help="How many (default: 1)")
def _skip(name: str, count: int) -> None:
    """Skip the next run of an entry, or several."""
    with _recorded("skip", f"{name} count={count}") as (redis, entry):
        if is_done := entries.find(redis, name).is_done:
            entry["on"] = f"{entry['on']}: there is nothing to skip"
        else:
            entries.skip_next(redis, name, count)
    if is_done:
        echo(f"{name} will not run again: there is nothing to skip.")
        return
    runs = {0: "No run", 1: "The next run"}.get(count, f"The next {count} runs")
    echo(f"{runs} of {name} will be skipped.")


@contextmanager
def _recorded(what: str, on: str) -> Iterator[tuple[Redis, dict[str, object]]]:
    """Where this is done, once the audit has it, and its entry there."""
    redis = redis_io.connected("scheduler")
    with audit.from_shell(redis, f"schedule.{what}", f"name={on}") as entry:
        yield redis, entry


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = [[" ".join(text.split()) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _shown_schedule(found: "Sequence[Entry]", now: datetime) -> str:
    heads = [(f"{n}", entry.name, entry.times_in_words()) for n, entry in enumerate(found, 1)]
    indent = "\n" + " " * (len(str(len(found))) + 2)
    parts = [f"{_counted(found)}, all valid."]
    for head, entry in zip(_aligned(heads).splitlines(), found, strict=True):
        call = " ".join(f"{entry.job.call.description}, queue {entry.job.recipe.queue}".split())
        more = [call, entry.alerts_in_words(), "  ".join(_next_times(entry, now))]
        parts.append(indent.join([f"\n{head}", *filter(None, more)]))
    return "\n".join(parts)


def _next_times(entry: "Entry", now: datetime) -> list[str]:
    zone, most = entry.timing.zone, min(_TIMES_SHOWN, entry.repeat or _TIMES_SHOWN)
    slots = [slot.astimezone(zone) for slot in islice(entry.timing.after(now), most)]
    year = " %Y" if any(slot.year != now.astimezone(zone).year for slot in slots) else ""
    second = ":%S" if any(slot.second for slot in slots) else ""
    shown = [f"{slot:%a %d %b{year} %H:%M{second}}" for slot in slots]
    if len(shown) < _TIMES_SHOWN:
        shown.append("then no more" if shown else "no more runs")
    return shown


def _shown_changes(changes: "Sequence[Change]", found: "Sequence[Entry]") -> str:
    counts = Counter[str](change.kind for change in changes)
    summary = ", ".join(f"{counts[kind]} {kind}" for kind in ("new", "changed", "gone", "same"))
    calls = {}
    for entry in found:
        call, queue = entry.job.call.description, entry.job.recipe.queue
        calls[entry.name] = f"{call} {entry.times_in_words()}, queue {queue}"
    rows = []
    for kind, name, what in changes:
        details = [
            f"{_NAMES.get(field, field)}: {_value(before)} → {_value(after)}"
            for field, before, after in what
        ]
        details = details if kind == "changed" else [calls.get(name, "")]
        heads = [(kind, name), *[("", "")] * len(details)]
        rows += [(*head, detail) for head, detail in zip(heads, details, strict=False)]
    shown = _aligned([row for row in rows if row[0] != "same"] or [("",)])
    return f"{_counted(found)}: {summary}. Nothing was written.\n{shown}".rstrip()


def _value(value: Any) -> str:
    if value in (None, "", {}, []):
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _counted(found: "Sequence[Entry]") -> str:
    return "1 entry" if len(found) == 1 else f"{len(found)} entries"
