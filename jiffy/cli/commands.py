"""The small subcommands: `jiffy dashboard`, `user`, `dev`, `pause`, `resume`, `paused`, `bulk`, and
`init`, which writes the files that are yours, to begin with.
"""

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from jiffy import __version__, clock, redis_io
from jiffy.cli import Command, echo, use_redis
from jiffy.control import audit, pauses, search
from jiffy.control import bulk as many
from jiffy.errors import MissingExtra
from jiffy.producer import project
from jiffy.settings import LEAST_PASSWORD, LOOPBACK, ROLES, USER_NAME, set_environment, settings

_SAMPLE = "jobs.numbers.add 2 3"
_kind = click.argument("kind", type=click.Choice(["queue", "function"]))
_name = click.argument("name")


@click.command(cls=Command, epilog="PORT=8001 {} unix://$PWD/.redis/redis.sock --read-only")
@click.argument("redis", required=False, callback=use_redis, is_eager=True)
@click.option("--read-only", is_flag=True, help="Show everything, and change nothing")
def dashboard(redis: str | None, read_only: bool) -> None:
    """Serve the dashboard and the HTTP API.

    It listens on HOST:PORT, and has the pages of `dashboard.py`, if there is one.  With the URL of
    a Redis it asks for no password where only this machine reaches it.
    """
    if read_only:
        set_environment({"READ_ONLY": "yes"}, replace=True)
    config = settings()
    has_users = config.dashboard_password or config.dashboard_users
    is_reached = config.is_production or not config.is_on_loopback or config.trusted_proxies
    # For others ask there, or through a proxy.
    has_place = config.url_prefix or {*config.allowed_hosts} - {*LOOPBACK}
    if redis and not (has_users or is_reached or has_place):
        set_environment({"DASHBOARD_LOGIN": "no"}, replace=False)
    from jiffy.dashboard import listen, serve, web_app

    listen(config.host, config.port).close()  # before the app prints a password for it
    serve(project.app(web_app))


@click.command(cls=Command, epilog="ann\necho a-long-password | {} bob --role viewer")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="operator", help="A viewer only reads")
def user(name: str, role: str) -> None:
    """Print a user for DASHBOARD_USERS.

    The password is asked for, or read from standard input; the setting holds only its hash.
    Separate several users by commas.
    """
    from werkzeug.security import generate_password_hash

    if not USER_NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} must be letters, digits and any of . _ @ + -")
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < LEAST_PASSWORD:
        raise click.UsageError(f"The password must have at least {LEAST_PASSWORD} characters")
    click.echo(f"{name}:{role}:{generate_password_hash(password).replace('$', '/')}")


@click.command(
    cls=Command,
    epilog="\nscheduler:SCHEDULE\n--job 'jobs.numbers.add 21 21' --job 'jobs.numbers.add 2 y=-3'",
)
@click.argument("schedule", default="")
@click.option(
    "--job", "jobs", multiple=True, metavar="CALL", help="Enqueue this job, and show its result"
)
def dev(schedule: str, jobs: tuple[str, ...]) -> int:
    """Run everything on this machine.

    That is Redis, the dashboard, a worker, the scheduler and a sample job.  It starts every line of
    the Procfile but `release`, and those of these parts that no line starts.  Settings in the file
    .env count, unless the environment has them.
    """
    try:
        from jiffy.dev import run
    except ModuleNotFoundError as error:
        raise MissingExtra("dev", error.name) from None
    sample = [_SAMPLE] if Path("jobs/numbers.py").exists() else []
    return run.run(schedule, jobs or sample)


@click.command(
    cls=Command,
    epilog="queue low --why 'the disk is full'\nfunction jobs.numbers.add --why 'a bug' --until 2h",
)
@_kind
@_name
@click.option("--why", required=True, metavar="TEXT", help="The reason, shown wherever it matters")
@click.option("--until", metavar="WHEN", help="2h, or a time with its zone (default: `resume`)")
@click.option("--who", default=pauses.user, metavar="NAME", help="Your name (default: the user)")
def pause(kind: str, name: str, **reason: Any) -> None:
    """Pause a queue, or a function by its path.

    Workers start no more of its jobs; what runs already runs on.
    """
    until = f" until={reason['until']}" if reason["until"] else ""
    with audit.from_shell(redis_io.shared(), "pause", f"{kind}={name}{until} why={reason['why']}"):
        before = pauses.read_pauses(redis_io.shared())
        pauses.pause(**{kind: name}, **reason)
    echo(f"{name} is paused.{pauses.doubt(**{kind: name})}")
    for one in before:
        if (one.kind, one.name) == (kind, name):
            echo(f"This takes the place of the pause by {one.who}: {one.why}")


@click.command(cls=Command, epilog="queue low\nfunction jobs.numbers.add")
@_kind
@_name
def resume(kind: str, name: str) -> None:
    """End a pause."""
    with audit.from_shell(redis_io.shared(), "resume", f"{kind}={name}") as entry:
        was_paused = pauses.resume(**{kind: name})
        entry["on"] = f"{entry['on']}{'' if was_paused else f' done={audit.NOTHING}'}"
    click.echo(f"{name} is resumed." if was_paused else f"{name} was not paused.")


@click.command(cls=Command, epilog="\n")
def paused() -> None:
    """Show what is paused, by whom, and why."""
    found = pauses.read_pauses(redis_io.connected("pauses"))
    if not found:
        click.echo("Nothing is paused.")
    for one in found:
        end = f", until {one.until:%Y-%m-%d %H:%M:%S} UTC" if one.until else ""
        waiting = f" (waiting: {one.parked})" if one.parked else ""
        age = clock.in_words((clock.now() - one.since).total_seconds())
        shown = f"{one.kind} {one.name}{waiting}: by {one.who} {age} ago{end}: {one.why}"
        echo(" ".join(shown.split()))


@click.command(
    cls=Command,
    epilog="retry 'state:failed fn:jobs.numbers.add' --rate 5\n"
    "delete 'state:finished before:7d' --yes",
)
@click.argument("action", type=click.Choice(["retry", "cancel", "delete"]))
@click.argument("matching")
@click.option("--rate", metavar="N", help="Retry N jobs a second; stop when 3 of them fail again")
@click.option("--yes", is_flag=True, help="Do not ask first")
def bulk(action: str, matching: str, rate: str | None, yes: bool) -> int:
    """Retry, cancel or delete many jobs.

    MATCHING is a filter, as on the dashboard's page of jobs.  It needs no worker.  Ctrl-C stops it;
    run it again for the rest.
    """
    many.read_filter(matching, "MATCHING")
    per_s = many.read_rate(action, rate)
    redis, tally = redis_io.shared(), many.Tally()
    redis_io.check(redis)
    asked = redis_io.now(redis)  # what comes while a person thinks about it is left alone
    wanted = search.parse(matching, asked)
    if not yes:
        number = many.count(redis, action, wanted)
        if not (number.total or number.is_more):
            click.echo("No jobs match.")
            return 0
        click.confirm(f"{action.capitalize()} {number}?", abort=True, err=True)
    on = f"action={action} filter={matching}" + (f" rate={rate}" if rate else "")
    with audit.from_shell(redis, "bulk", on) as entry:
        try:
            for _ in many.steps(redis, action, wanted, asked, per_s, tally):
                if sys.stderr.isatty():
                    done = tally.done + tally.others
                    click.echo(f"\r{done:,} of {tally.total:,}", nl=False, err=True)
        finally:
            echo(tally.words(action))
            entry["jobs"] = tally.done
    return 1 if tally.failed_again >= many.MOST_AGAIN else 0


# They are those of Jiffy's own project: a wheel has them here, a checkout at its top.
_HERE = Path(__file__).parent
_SOURCE = _HERE / "project" if (_HERE / "project").exists() else _HERE.parents[1]
_FILES = (
    "jobs/__init__.py", "jobs/numbers.py", "enqueue.py", "scheduler.py", "worker.py",
    "dashboard.py", "Procfile", ".env.example", ".python-version",
)  # fmt: skip
# What is left of their own examples: one job.
_EXAMPLES = (
    (r"from jobs import .*", "from jobs import numbers"),
    (r"(OPTIONS = {\n).*?(\n}\n)", r'\1    numbers.add: options(timeout="1m"),\2'),
    (
        r"(SCHEDULE = \[\n).*?(\n\]\n)",
        r'\1    every("1d", numbers.add, args=[2, 3], queue="low", name="nightly"),\n'
        r'    cron("0 6 * * mon", numbers.add, args=[4, 5], timezone="Europe/Paris"),\2',
    ),
)
_IGNORED = ".env\n.redis/\n.venv/\n__pycache__/\n"
_NEXT = """\
Next:
  pip install '{}'   Redis and the dashboard for this machine
  jiffy dev                                   start Redis, the dashboard, a worker, the scheduler
  jiffy enqueue jobs.numbers.add 2 3 --wait   in a second terminal: your first job
A job is a function under jobs/.  To deploy, push this folder to a platform that runs the Procfile.
That needs REDIS_URL, DASHBOARD_PASSWORD and SECRET_KEY; .env.example has every setting."""


class _Init(click.Command):
    format_epilog = Command.format_epilog


@click.command(cls=_Init, epilog="shop")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a project's files.

    They are jobs/, enqueue.py, scheduler.py, worker.py, dashboard.py and Procfile.  A file that
    exists is left as it is.
    """
    files: dict[str, str] = {}
    for name in _FILES:
        content = (_SOURCE / name).read_text(encoding="utf-8")
        for pattern, example in _EXAMPLES:
            flags = re.DOTALL if "\\n" in pattern else 0
            content = re.sub(pattern, example, content, flags=flags)
        files[name] = content
    files |= {"requirements.txt": f"{_requirement('dashboard')}\n", ".gitignore": _IGNORED}
    new = [name for name in files if not (folder / name).exists()]
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(files[name], encoding="utf-8")
    click.echo(f"Wrote {', '.join(new) or 'nothing'}.")
    if kept := ", ".join(sorted(files.keys() - new)):
        click.echo(f"Unchanged: {kept}.")
    steps = _NEXT.format(_requirement("dev"))
    click.echo(steps if folder == Path() else steps.replace("Next:", f"Next:\n  cd {folder}"))
    if "file:" in files["requirements.txt"]:
        click.echo("requirements.txt names a file on this machine: change that before you deploy.")


def _requirement(extra: str) -> str:
    """Jiffy with an extra, from where it was installed."""
    try:
        origin = json.loads(metadata.distribution("jiffy").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # a checkout
        origin = {"url": _SOURCE.as_uri()}
    if "vcs_info" in origin:
        version = origin["vcs_info"]
        return f"jiffy[{extra}] @ {version['vcs']}+{origin['url']}@{version['commit_id']}"
    return f"jiffy[{extra}] @ {origin['url']}" if origin else f"jiffy[{extra}]=={__version__}"
