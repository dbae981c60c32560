"""`jiffy init`: the files that are yours, to begin with."""

import json
import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import click

from jiffy import __version__

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
        r'\1    every("10m", numbers.add, args=[2, 3], queue="low"),\n'
        r'    cron("0 6 * * mon", numbers.add, args=[4, 5], name="weekly", '
        r'timezone="Europe/Paris"),\2',
    ),
)
_IGNORED = ".env\n.redis/\n.venv/\n__pycache__/\n"

_DEPLOY = """\
A job is a function under jobs/.  To deploy, push this folder to a platform that runs the Procfile.
That needs REDIS_URL, DASHBOARD_PASSWORD and SECRET_KEY; .env.example has every setting."""


@click.command(epilog="Example: jiffy init shop")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Write a project's files: jobs/, enqueue.py, scheduler.py, worker.py, dashboard.py, Procfile.

    A file that is there already is left as it is.
    """
    texts = {name: _text(name) for name in _FILES}
    texts |= {"requirements.txt": f"{_requirement()}\n", ".gitignore": _IGNORED}
    new = [name for name in texts if not (folder / name).exists()]
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(texts[name], encoding="utf-8")
    left = [name for name in texts if name not in new]
    click.echo(f"Wrote {', '.join(new) or 'nothing'}.")
    if left:
        click.echo(f"Left as it was: {', '.join(left)}.")
    click.echo(_next_steps(folder))
    if "file:" in texts["requirements.txt"]:
        click.echo("requirements.txt names a file on this machine: change that before you deploy.")


def _text(name: str) -> str:
    text = (_SOURCE / name).read_text(encoding="utf-8")
    for pattern, example in _EXAMPLES:
        text = re.sub(pattern, example, text, flags=re.DOTALL if "\\n" in pattern else 0)
    return text


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


def _next_steps(folder: Path) -> str:
    steps = []
    if folder != Path():
        steps.append((f"cd {folder}", ""))
    if not all(map(find_spec, ("honcho", "flask"))):
        steps.append(("pip install 'jiffy[dev]'", "a Redis and the dashboard for this machine"))
    steps += [
        ("jiffy dev", "start Redis, the dashboard, a worker and the scheduler"),
        ("jiffy enqueue jobs.numbers.add 2 3 --wait", "in a second terminal: your first job"),
    ]
    lines = "\n".join(f"  {command:42} {meaning}".rstrip() for command, meaning in steps)
    return f"Next:\n{lines}\n{_DEPLOY}"
