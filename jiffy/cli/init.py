"""`jiffy init`: the files that are yours, to begin with."""

import json
import re
from importlib import metadata
from pathlib import Path

import click

from jiffy import __version__
from jiffy.cli import Command

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
  pip install 'jiffy[dev]'                    Redis and the dashboard for this machine
  jiffy dev                                   start Redis, the dashboard, a worker, the scheduler
  jiffy enqueue jobs.numbers.add 2 3 --wait   in a second terminal: your first job
A job is a function under jobs/.  To deploy, push this folder to a platform that runs the Procfile.
That needs REDIS_URL, DASHBOARD_PASSWORD and SECRET_KEY; .env.example has every setting."""


class _Init(click.Command):
    format_epilog = Command.format_epilog


@click.command(cls=_Init, epilog="shop")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Write a project's files.

    They are jobs/, enqueue.py, scheduler.py, worker.py, dashboard.py and Procfile.  A file that
    exists is left as it is.
    """
    files = {name: _content(name) for name in _FILES}
    files |= {"requirements.txt": f"{_requirement()}\n", ".gitignore": _IGNORED}
    new = [name for name in files if not (folder / name).exists()]
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(files[name], encoding="utf-8")
    click.echo(f"Wrote {', '.join(new) or 'nothing'}.")
    if kept := ", ".join(sorted(files.keys() - new)):
        click.echo(f"Unchanged: {kept}.")
    click.echo(_NEXT if folder == Path() else _NEXT.replace("Next:", f"Next:\n  cd {folder}"))
    if "file:" in files["requirements.txt"]:
        click.echo("requirements.txt names a file on this machine: change that before you deploy.")


def _content(name: str) -> str:
    content = (_SOURCE / name).read_text(encoding="utf-8")
    for pattern, example in _EXAMPLES:
        content = re.sub(pattern, example, content, flags=re.DOTALL if "\\n" in pattern else 0)
    return content


def _requirement() -> str:
    """Jiffy with its dashboard, from where it was installed."""
    try:
        origin = json.loads(metadata.distribution("jiffy").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # a checkout
        origin = {}
    if "vcs_info" in origin:
        version = origin["vcs_info"]
        return f"jiffy[dashboard] @ {version['vcs']}+{origin['url']}@{version['commit_id']}"
    return f"jiffy[dashboard] @ {origin['url']}" if origin else f"jiffy[dashboard]=={__version__}"
