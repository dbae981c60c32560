"""`python scheduler.py list | history | pause | resume | run | skip`: entries at a terminal."""

import argparse
import getpass
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from jiffy import clock, connection, entries
from jiffy.ticks import Tick

_Command = Callable[[Redis, argparse.Namespace], Iterable[str]]


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Let the parser know the commands; `asked.command` is the one that was given, or None."""
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="entries", metavar="COMMAND")
    for command, words, meaning, flags in _COMMANDS:
        one = commands.add_parser(words[0], help=meaning, description=f"{meaning}.")
        one.set_defaults(command=command)
        for word in words[1:]:
            one.add_argument(word, help="its name, as in `list`")
        for flag, options in flags.items():
            one.add_argument(flag, **options)


def operate(asked: argparse.Namespace) -> None:
    """Do what was asked and show what came of it.  Raises UnknownEntry and InvalidValue."""
    command: _Command = asked.command
    lines = command(connection.connect("scheduler"), asked)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in lines)


def _list(redis: Redis, _: argparse.Namespace) -> Iterable[str]:
    rows = [("ENTRY", "NEXT (UTC)", "LAST", "TIMES")]
    for state in entries.read(redis):
        rows.append((state.name, _next(state), _last(state.last), state.words))
    return _aligned(rows)


def _history(redis: Redis, asked: argparse.Namespace) -> Iterable[str]:
    rows = [("SLOT (UTC)", "OUTCOME", "LATE", "TOOK", "JOB, OR WHY NONE")]
    for tick in entries.history(redis, asked.name, asked.limit):
        late = "" if tick.late_ms is None else clock.in_words(tick.late_ms / 1000)
        took = "" if tick.duration_s is None else clock.in_words(tick.duration_s)
        what = " ".join(filter(None, [tick.job_id, tick.reason]))
        rows.append((_shown(tick.slot), tick.outcome, late, took, what))
    return _aligned(rows)


def _pause(redis: Redis, asked: argparse.Namespace) -> Iterable[str]:
    until = None if asked.until is None else entries.moment(asked.until)
    entries.pause(redis, asked.name, who=asked.who, why=asked.why, until=until)
    end = f"until {_shown(until)} UTC" if until else f"until `resume {asked.name}`"
    return [f"{asked.name} is paused {end}."]


def _resume(redis: Redis, asked: argparse.Namespace) -> Iterable[str]:
    was_paused = entries.resume(redis, asked.name)
    return [f"{asked.name} goes on." if was_paused else f"{asked.name} was not paused."]


def _run(redis: Redis, asked: argparse.Namespace) -> Iterable[str]:
    return [f"{entries.run_now(redis, asked.name, asked.who)} is enqueued."]


def _skip(redis: Redis, asked: argparse.Namespace) -> Iterable[str]:
    if entries.find(redis, asked.name).is_done:
        return [f"{asked.name} never comes again: there is nothing to skip."]
    entries.skip_next(redis, asked.name, asked.count)
    if not asked.count:
        return [f"No tick of {asked.name} will be skipped."]
    ticks = "tick" if asked.count == 1 else f"{asked.count} ticks"
    return [f"The next {ticks} of {asked.name} will be skipped."]


def _next(state: entries.State) -> str:
    if state.paused:
        end = f" until {_shown(state.paused.until)}" if state.paused.until else ""
        return f"paused by {state.paused.who}{end}: {state.paused.why}"
    if state.next_at is None:
        return "never again"
    skipped = f", skips {state.skip}" if state.skip else ""
    return f"{_shown(state.next_at)}{skipped}"


def _last(tick: Tick | None) -> str:
    return "" if tick is None else f"{tick.outcome} {_shown(tick.slot)}"


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    rows = [[" ".join(text.split()) for text in row] for row in rows]  # a line for each
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this process' user
        return "somebody"


_Flags = dict[str, dict[str, Any]]
_WHO: _Flags = {
    "--who": {"metavar": "NAME", "default": _user(), "help": "who asks (default: %(default)s)"}
}
_WHY_UNTIL: _Flags = {
    "--why": {"metavar": "TEXT", "required": True, "help": "shown wherever the entry is"},
    "--until": {
        "metavar": "WHEN",
        "help": "2h, or a time with its zone (default: until `resume`)",
    },
}
_LIMIT: _Flags = {"--limit": {"metavar": "N", "type": int, "default": 20, "help": "so many (20)"}}
_COUNT: _Flags = {"--count": {"metavar": "N", "type": int, "default": 1, "help": "so many (1)"}}
_COMMANDS: Sequence[tuple[_Command, Sequence[str], str, _Flags]] = (
    (_list, ["list"], "show the entries, when they are due and how they went", {}),
    (_history, ["history", "name"], "show the last ticks of an entry", _LIMIT),
    (_pause, ["pause", "name"], "let an entry's ticks be skipped", _WHY_UNTIL | _WHO),
    (_resume, ["resume", "name"], "end a pause", {}),
    (_run, ["run", "name"], "enqueue a job of an entry now", _WHO),
    (_skip, ["skip", "name"], "skip the next tick of an entry, or several", _COUNT),
)
