"""The command `jiffy`; `python enqueue.py` and the other files of a project run through it, too.

Its subcommands are imported when they are used: `jiffy enqueue` does not wait for the web app.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import click

from jiffy import __version__, log, redis_io
from jiffy.errors import InvalidSetting, WrongArguments, did_you_mean
from jiffy.settings import Settings, set_environment, settings

INTERRUPTED_EXIT_CODE = 130
_COMMANDS = (
    "enqueue", "worker", "scheduler", "dashboard", "user", "pause", "resume", "paused", "bulk",
    "dev", "init",
)  # fmt: skip


def main(name: str = "") -> NoReturn:
    """Do what was typed, and exit.  With a `name`, a file of the project is that subcommand."""
    # Where a standard stream is closed, a connection to Redis would be opened in its place.
    for stream, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, stream) is None:
            setattr(sys, stream, Path(os.devnull).open(mode))  # noqa: SIM115
    if name:
        # The file is also the module of its name, and is not run a second time to be that.
        sys.modules.setdefault(name, sys.modules["__main__"])
        sys.exit(run(load(name)))
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    sys.exit(run(command, sys.argv[1:] or ["--help"], prog=None))


def run(
    command: click.Command,
    words: Sequence[str] | None = None,
    *,
    prog: str | None = f"python {Path(sys.argv[0]).name}",
    given: Any = None,
) -> int:
    """Run a command; return its exit code.  An invalid call ends the process, with one line."""
    with redis_io.in_one_line():
        try:
            return command.main(words, prog, standalone_mode=False, obj=given) or 0
        except click.UsageError as error:
            more = f" See {error.ctx.command_path} --help." if error.ctx else ""
            text = error.format_message().rstrip(".")
            if isinstance(error, click.NoSuchOption) and error.ctx:
                option, known = error.option_name, error.ctx.command.params
                setting = option.strip("-").replace("-", "_").upper()
                hint = did_you_mean(option, [name for one in known for name in one.opts])
                arguments = [repr(one.name) for one in known if isinstance(one, click.Argument)]
                if any(name in hint for name in arguments):
                    hint = " (write its value alone: it is an argument)"
                if setting in (one.name.upper() for one in fields(Settings)):
                    hint = f" (it is a setting: {setting}=…)"
                text = f"No option {option!r}{hint}"
            raise WrongArguments(f"{text}.{more}") from None
        except click.Abort:
            return INTERRUPTED_EXIT_CODE


def echo(text: str, *, err: bool = False) -> None:
    """Print lines; what Redis and jobs put into them cannot control the terminal."""
    click.echo(log.printable(text), err=err)


def load(name: str) -> click.Command:
    """The subcommand of this name."""
    has_module = name in ("enqueue", "worker", "scheduler")
    path = f"{name}:command" if has_module else f"commands:{name}"
    found: click.Command = resolve_name(f"{__name__}.{path}")
    return found


def use_redis(_: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Let this process, and those that it starts, use the Redis at `url`."""
    if url:
        set_environment({"REDIS_URL": url}, replace=True)
        redis_io.shared.cache_clear()
        try:
            settings()
        except InvalidSetting as error:
            raise error.but(name=option.opts[0]) if error.name == "REDIS_URL" else error from None
    return url


redis_url = click.option(
    "--redis-url", metavar="URL", callback=use_redis, expose_value=False, is_eager=True,
    help="Use the Redis at URL (default: the setting REDIS_URL)",
)  # fmt: skip


class Command(click.Command):
    """A subcommand: it takes --redis-url, and its epilog is examples, {} standing for its name.

    A line without {} begins with it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        redis_url(self)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in (self.epilog or "").splitlines():
                example = line if "{}" in line else f"{{}} {line}".rstrip()
                formatter.write(f"  {example.format(ctx.command_path)}\n")


class _Jiffy(click.Group):
    def list_commands(self, _: click.Context) -> list[str]:
        return [*_COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS and not ctx.resilient_parsing:
            raise click.UsageError(f"No command {name!r}{did_you_mean(name, _COMMANDS)}", ctx)
        return load(name) if name in _COMMANDS else None


@click.command(cls=_Jiffy)
@click.version_option(__version__, message="%(version)s")
def command() -> None:
    """Enqueue jobs, run them, repeat them, and watch them in a browser."""
