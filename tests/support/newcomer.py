"""A newcomer: types `make run` in a fresh clone, reads what it prints, presses Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from jiffy import clock

CHECKOUT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 240
# How long what has to happen may take: no machine is so busy.
PATIENCE_S = 150


@contextmanager
def new_folder():
    """Where to clone to.  Its path is short, as that of a socket in it has to be."""
    with tempfile.TemporaryDirectory(prefix="jiffy-test-") as above:
        yield Path(above) / "jiffy"


def clone(folder):
    """Clone this checkout, as it was last committed, into `folder`."""
    subprocess.run(["git", "clone", "-q", CHECKOUT, folder], check=True)
    return folder


def clone_set_up(folder):
    """The same, sharing what is installed here."""
    clone(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def port_to_look_from():
    """Two runs that look for a free port at once would find the same: the first has the default."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return {"PORT": str(8000 + 100 * number)} if number else {}


@contextmanager
def make_run(folder, *, command=("make", "run"), **environ):
    """Type `make run` in `folder`; whatever becomes of it, nothing stays behind."""
    run = Run(folder, command, environ)
    try:
        yield run
    finally:
        run.end()


class Run:
    """A `make run` in `folder`, or a `jiffy dev`; what it prints is in `lines`."""

    def __init__(self, folder, command, environ):
        self.lines = []
        self.folder = folder
        self.is_ready, self.is_over = threading.Event(), threading.Event()
        self.mark = f"JIFFY_TEST_MARK={uuid.uuid4()}"
        mark = dict([self.mark.split("=")])
        self.environ = newcomers_environ() | mark | port_to_look_from() | environ
        self.process = subprocess.Popen(
            command, cwd=folder, env=self.environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "|   Stop " in line:
                self.is_ready.set()
        self.is_ready.set()
        self.is_over.set()

    @property
    def said(self):
        return "\n".join(self.lines)

    def wait_until_ready(self):
        assert self.is_ready.wait(READY_TIMEOUT_S), self.said
        assert self.process.poll() is None, self.said

    def after(self, word):
        """What stands behind `word` in the last lines, such as the dashboard's address."""
        return re.search(rf"\|   {word} +(.+)$", self.said, re.MULTILINE).group(1)

    @property
    def redis_address(self):
        return re.search(r"^Redis: (\S+)", self.said, re.MULTILINE).group(1)

    def press_ctrl_c(self):
        """Send what a terminal sends: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def left(self):
        """The processes of this run that still live, also those that left its process group."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._owns(path)]

    def _owns(self, process):
        # Redis writes its title, where its socket is, over its environment.
        titles = read(process / "cmdline")
        return self.mark.encode() in read(process / "environ") or os.fsencode(self.folder) in titles

    def wait_until_none_is_left(self):
        wait_until(lambda: not self.left())

    def type(self, command):
        """Type `command` in a second terminal; return what it prints.  It has to succeed."""
        typed = subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=self.environ, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert typed.returncode == 0, f"{command}\n{typed.stdout}"
        return typed.stdout

    def end(self):
        if self.process.poll() is None:
            self.press_ctrl_c()
            self.is_over.wait(PATIENCE_S)
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


def newcomers_environ():
    """This process's environment without what `make` and the tests have put there."""
    ours = str(CHECKOUT / ".venv")
    environ = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    for name in ("REDIS_URL", "REDIS_SERVER", "VIRTUAL_ENV", "MFLAGS"):
        environ.pop(name, None)
    paths = environ["PATH"].split(os.pathsep)
    environ["PATH"] = os.pathsep.join(path for path in paths if not path.startswith(ours))
    return environ


def edit(file, text, fact):
    """Write this into the file until `fact`: it may not be watched yet, so again after a pause.

    Each time ends the trial of the last one, so the pauses grow."""
    pause_s, again_at = 2, 0.0

    def is_so():
        nonlocal pause_s, again_at
        if clock.monotonic() >= again_at:
            file.write_text(text)
            pause_s, again_at = 2 * pause_s, clock.monotonic() + pause_s
        return fact()

    wait_until(is_so)


def wait_until(fact):
    deadline = clock.monotonic() + PATIENCE_S
    while not fact():
        assert clock.monotonic() < deadline
        threading.Event().wait(0.05)
