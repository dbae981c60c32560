"""The examples that `--help` prints can be pasted, in the project that `jiffy init` writes."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import click
import pytest

from jiffy import cli
from jiffy.dev import redis_server
from tests.support.newcomer import CHECKOUT, PATIENCE_S, new_folder, wait_until
from tests.support.ports import free_port

PROGRAM = "python -m jiffy"
# What runs until it is stopped has begun when it says so.
STARTED = {
    "worker": "worker.started",
    "scheduler": "scheduler.started",
    "dashboard": "web.started",
    "dev": "Stop            Ctrl-C",
}
TYPED = {"user": "a-long-password\n", "bulk": "y\n"}


def commands(command=cli.command, *names):
    """The names of every command, and of every subcommand."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), *names, name)
    if names:
        yield names


@pytest.fixture
def project(redis_address):
    """A new project with a Redis, a worker and a scheduler."""
    with new_folder() as folder:
        folder.mkdir()
        with pasted(f"{PROGRAM} init", folder, redis_address, "init") as (code, said):
            assert code == 0, said
        (folder / ".redis").mkdir()
        url = redis_server.start(folder / ".redis", keep=False)
        with pasted(f"{PROGRAM} worker --with-scheduler", folder, url, "worker"):
            yield folder, url
        redis_server.stop(url)


@contextmanager
def pasted(line, folder, url, name):
    """Its exit code once it has ended, or None once it has started, and what it has printed."""
    paths = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    log = folder / f"{len(list(folder.glob('*.log')))}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", line], cwd=folder, text=True, start_new_session=True,
            env=os.environ | paths | {"REDIS_URL": url, "PORT": str(free_port())},
            stdin=subprocess.PIPE, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        process.stdin.write(TYPED.get(name, ""))
        process.stdin.close()
        sign = STARTED.get(name, "It ends by itself.")
        wait_until(lambda: process.poll() is not None or sign in log.read_text())
        yield process.poll(), log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


@pytest.mark.slow
def test_every_example_can_be_pasted(project, capsys):
    for names in commands():
        cli.run(cli.command, [*names, "--help"], prog=PROGRAM)
        examples = capsys.readouterr().out.partition("Examples:\n")[2].splitlines()
        assert examples, names
        for line in examples:
            with pasted(line, *project, names[0]) as (code, said):
                assert not code, f"{line}\n{said}"
