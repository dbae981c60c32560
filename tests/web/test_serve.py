"""The web process: how it starts, refuses to, and stops."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from jiffy.clock import monotonic
from tests.support.newcomer import PATIENCE_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# As the Procfile has it, but for the address.
WEB = re.search(r"^web: (.*) --bind \S+ (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
GUNICORN = [sys.executable, "-m", *" ".join(WEB.groups()).split()]
DASHBOARD = [sys.executable, "dashboard.py"]


@pytest.mark.parametrize("command", [GUNICORN, DASHBOARD])
def test_production_without_a_password_ends_with_one_line_and_code_2(command, port):
    ended = run(command, port, JIFFY_ENV="production")

    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(
        "DASHBOARD_PASSWORD is not set. Production needs"
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [GUNICORN, DASHBOARD])
def test_production_without_a_secret_key_ends_with_one_line_and_code_2(command, port):
    ended = run(command, port, JIFFY_ENV="production", DASHBOARD_PASSWORD="x", SECRET_KEY="")

    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        "SECRET_KEY is not set. Production needs one, the same in every web process: "
        "set it to what python -c 'import secrets; print(secrets.token_hex(32))' prints."
    )
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_one_line_and_code_2(port):
    with socket.create_server(("127.0.0.1", port)):
        ended = run(DASHBOARD, port, DASHBOARD_PASSWORD="x")

    assert ended.returncode == 2
    assert ended.stderr == (
        f"Cannot listen at 127.0.0.1:{port} (address already in use). Set PORT to a free one.\n"
    )


def test_it_takes_the_redis_as_its_argument_and_needs_no_other(port, redis_address, tmp_path):
    secrets = {"DASHBOARD_PASSWORD": "x", "SECRET_KEY": "k" * 40}
    environ = environment(port) | secrets | {"JIFFY_ENV": "production"}
    environ.pop("REDIS_URL", None)
    with (tmp_path / "log").open("w") as out:
        command = [*DASHBOARD, redis_address]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=out)
    try:
        body = wait_for(f"http://127.0.0.1:{port}/healthz")
    finally:
        process.terminate()
        process.wait(10)

    assert b'"redis":"ok"' in body


@pytest.mark.parametrize("command", [GUNICORN, DASHBOARD])
def test_it_serves_and_stops_when_told_to(command, port, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            with_port(command, port), cwd=ROOT, env=environment(port), stdout=out, stderr=out
        )
    try:
        body = wait_for(f"http://127.0.0.1:{port}/healthz")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)

    assert b'"redis":"ok"' in body
    assert code == 0
    assert len(re.findall(r"password: \S+", log.read_text())) == 1


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def run(command, port, **environ):
    return subprocess.run(
        with_port(command, port),
        cwd=ROOT,
        env=environment(port) | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def with_port(command, port):
    return [*command, "--bind", f"127.0.0.1:{port}"] if command is GUNICORN else command


def environment(port):
    return os.environ | {"PORT": str(port)}


def wait_for(url):
    deadline = monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError:
            if monotonic() > deadline:
                raise
            threading.Event().wait(0.05)
