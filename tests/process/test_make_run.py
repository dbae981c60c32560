"""`make run` in a fresh clone, as a newcomer types it: from nothing to the picture, and back."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from jiffy import clock
from tests.browser import open_browser

CHECKOUT = Path(__file__).resolve().parents[2]
SCREENSHOT = CHECKOUT / "build/screenshot.png"
READY_TIMEOUT_S = 240
STOP_TIMEOUT_S = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(360)]

NAP = """
import time

def nap(seconds: float) -> None:
    time.sleep(seconds)
"""


class Run:
    """A `make run` in `folder`; what it prints is in `lines`."""

    def __init__(self, folder, **environ):
        self.lines = []
        self.is_ready = threading.Event()
        self.mark = f"JIFFY_TEST_MARK={uuid.uuid4()}"
        self.process = subprocess.Popen(
            ["make", "run"], cwd=folder, env=newcomers_environ(self.mark) | environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("  Stop "):
                self.is_ready.set()
        self.is_ready.set()

    @property
    def said(self):
        return "\n".join(self.lines)

    def wait_until_ready(self):
        assert self.is_ready.wait(READY_TIMEOUT_S), self.said
        assert self.process.poll() is None, self.said

    def after(self, word):
        """What stands behind `word` in the last lines, such as the dashboard's address."""
        return re.search(rf"^  {word} +(.+)$", self.said, re.MULTILINE).group(1)

    def press_ctrl_c(self):
        """Send what a terminal sends: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def left(self):
        """The processes of this run that still live, by the mark in their environment."""
        return [
            int(environ.parent.name)
            for environ in Path("/proc").glob("[0-9]*/environ")
            if self.mark.encode() in read(environ)
        ]

    def wait_until_none_is_left(self):
        deadline = clock.monotonic() + STOP_TIMEOUT_S
        while self.left():
            assert clock.monotonic() < deadline, [
                read(f"/proc/{pid}/cmdline") for pid in self.left()
            ]
            threading.Event().wait(0.05)

    def end(self):
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


def read(path):
    with suppress(OSError):  # that process has ended
        return Path(path).read_bytes()
    return b""


def newcomers_environ(mark):
    """This process's environment without what `make` and the tests have put there."""
    ours = str(CHECKOUT / ".venv")
    environ = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    for name in ("REDIS_URL", "VIRTUAL_ENV", "MFLAGS"):
        environ.pop(name, None)
    paths = environ["PATH"].split(os.pathsep)
    environ["PATH"] = os.pathsep.join(path for path in paths if not path.startswith(ours))
    name, _, value = mark.partition("=")
    return environ | {name: value}


@pytest.fixture
def clone(tmp_path):
    """A fresh clone of this checkout, as it was last committed."""
    subprocess.run(["git", "clone", "-q", CHECKOUT, tmp_path / "jiffy"], check=True)
    return tmp_path / "jiffy"


@pytest.fixture
def clone_set_up(clone):
    """A fresh clone that shares what is installed here."""
    (clone / ".venv").symlink_to(sys.prefix)
    return clone


@pytest.fixture
def run():
    """Type `make run` in a folder; whatever became of it, nothing stays behind."""
    runs = []

    def start(folder, **environ):
        runs.append(Run(folder, **environ))
        return runs[-1]

    yield start
    for started in runs:
        started.end()


@contextmanager
def logged_in(run):
    user, password = run.after("Log in").split(" / ")
    with open_browser(viewport={"width": 1280, "height": 800}) as page:
        page.goto(run.after("Dashboard"))
        page.fill("[name=user]", user)
        page.fill("[name=password]", password)
        page.click("button:has-text('Log in')")
        yield page


@pytest.mark.browser
def test_a_newcomer_sees_the_sample_job_finished_and_nothing_is_left_behind(clone, run):
    started = run(clone)
    started.wait_until_ready()
    with Image.open(clone / started.after("Small picture")) as picture:
        assert picture.size == (200, 150)

    with logged_in(started) as page:
        page.wait_for_selector("text=jobs.images.resize")
        SCREENSHOT.parent.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOT)
        row = page.locator("tr", has_text="jobs.images.resize").first

        assert "finished" in row.inner_text().lower()

    started.press_ctrl_c()
    started.wait_until_none_is_left()


def test_ctrl_c_while_a_job_runs_leaves_nothing_behind(clone_set_up, run):
    (clone_set_up / "jobs/naps.py").write_text(NAP)
    started = run(clone_set_up)
    started.wait_until_ready()
    python = shutil.which("python", path=clone_set_up / ".venv/bin")
    subprocess.run(
        [python, "enqueue.py", "jobs.naps.nap", "300"], cwd=clone_set_up, check=True,
        env=newcomers_environ(started.mark), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: "naps.nap" in started.said)

    started.press_ctrl_c()
    started.wait_until_none_is_left()


def test_sigterm_ends_it_like_ctrl_c(clone_set_up, run):
    started = run(clone_set_up)
    started.wait_until_ready()

    started.process.terminate()
    started.wait_until_none_is_left()


def test_a_busy_port_is_passed_over_and_it_says_so(clone_set_up, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        started = run(clone_set_up, PORT=str(port))
        started.wait_until_ready()

        assert f"Port {port} is busy; the dashboard takes " in started.said
        assert f":{port}/" not in started.after("Dashboard")


def test_a_redis_of_the_users_own_is_used_and_left_alone(clone_set_up, run, redis, redis_address):
    started = run(clone_set_up, REDIS_URL=redis_address)
    started.wait_until_ready()
    started.press_ctrl_c()
    started.wait_until_none_is_left()

    assert redis.zcard("rq:finished:default") == 2
    assert not (clone_set_up / ".redis").exists()


def test_a_redis_that_is_away_is_one_line(clone_set_up, run):
    started = run(clone_set_up, REDIS_URL="redis://127.0.0.1:1/0")
    started.process.wait()
    started.reader.join()

    assert started.lines[0].startswith("No Redis at redis://127.0.0.1:1/0 (connection refused).")
    assert not any("Traceback" in line for line in started.lines)


def wait_for(fact):
    deadline = clock.monotonic() + 30
    while not fact():
        assert clock.monotonic() < deadline
        threading.Event().wait(0.05)
