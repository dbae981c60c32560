"""`jiffy dev` and `make run`: Redis, all processes under honcho, and a sample job, until Ctrl-C."""

import errno
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from honcho import environ, manager, printer

from jiffy import clock, connection, system
from jiffy.errors import InvalidSetting, JiffyError
from jiffy.producer import project
from jiffy.settings import set_environment, settings

LOGIN = """\
  Dashboard       {address}
  Log in          {user} / {password}
  HTTP API        POST {address}api/jobs, Bearer {token}
  Your turn       {enqueue} {call} --wait
  Stop            Ctrl-C
"""

# All is gone 5 s after Ctrl-C: honcho kills what is left after 3, we what is left after honcho.
STOP_TIMEOUT_S = 3
JOBS_GRACE_S = 2
WEB_TIMEOUT_S = 30
SAMPLE_TIMEOUT_S = 60


def run(schedule: str, jobs: Sequence[str]) -> int:
    """Start everything, stay up until told to stop, leave no process; return the exit code.

    `schedule` is what `jiffy scheduler` would be given, each of `jobs` what `jiffy enqueue` would.
    """
    for asked_to_stop in (signal.SIGINT, signal.SIGTERM):  # honcho replaces these
        signal.signal(asked_to_stop, lambda *_: sys.exit(0))
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` sets it
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    _read_dotenv()
    connection.connected("run")  # starts the private Redis; it is to outlive us, so first
    print(f"Redis: {connection.describe(settings())}", flush=True)
    login = _choose_settings()
    system.adopt_orphans()  # so that we can end them
    try:
        return _run(Processes(login, jobs), _commands(schedule))
    finally:
        _end_descendants()


def _read_dotenv() -> None:
    """Take the settings in `.env`, as `heroku local` does; the environment's own win."""
    with suppress(FileNotFoundError):
        set_environment(environ.parse(Path(".env").read_text()), replace=False)


def _choose_settings() -> str:
    """Settle what the processes below have to agree upon; return the words on how to log in."""
    given = settings()
    port = _free_port(given.host, given.port)
    if port != given.port:
        print(f"Port {given.port} is busy; the dashboard takes {port}.", flush=True)
    password, token = secrets.token_urlsafe(9), secrets.token_urlsafe(24)
    made = {"DASHBOARD_PASSWORD": password, "API_TOKEN": token, "PYTHONUNBUFFERED": "1"}
    set_environment(made, replace=False)
    settled = {"PORT": str(port), "HOST": given.host, "GRACE_S": str(JOBS_GRACE_S)}
    set_environment(settled, replace=True)
    return LOGIN.format(
        enqueue=_enqueue(),
        call="jobs.numbers.add 2 3" if Path("jobs/numbers.py").exists() else "MODULE.FUNCTION",
        address=f"http://{given.host}:{port}/",
        user=given.dashboard_user,
        password="your DASHBOARD_PASSWORD" if given.dashboard_password else password,
        token="your API_TOKEN" if given.api_token else token,
    )


def _free_port(host: str, first: int) -> int:
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise InvalidSetting("HOST", host, "an address of this machine") from None
            return port
    raise JiffyError(f"No free port from {first} on; set PORT to one that is.")


class Terminal:
    """Where all is printed.  What the processes log is held back while a command has the screen."""

    def __init__(self, fd: int) -> None:
        # Unbuffered: honcho also prints from a signal handler, maybe amid another print.
        self._raw: IO[bytes] = os.fdopen(os.dup(fd), "wb", buffering=0)
        self._lock = threading.RLock()
        self._guided = True
        self._held: list[str] | None = None

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, text: str) -> None:
        with self._lock:
            if self._held is None:
                self._raw.write(text.encode())
            else:
                self._held.append(text)

    def flush(self) -> None:
        """Nothing is ever kept back."""

    def hold(self) -> None:
        with self._lock:
            self._held = [] if self._guided else None

    def release(self) -> None:
        with self._lock:
            held, self._held = self._held or [], None
            self.write("".join(held))

    def say(self, text: str) -> None:
        """Print the guide's words, past what is held back."""
        if self._guided:
            self._raw.write(f"{text}\n".encode())

    def close(self) -> None:
        self._raw.close()

    def end_guide(self) -> None:
        """From now on, print what the processes log and nothing else."""
        self._guided = False
        self.release()


class Processes(manager.Manager):  # type: ignore[misc] # honcho has no types
    """honcho's manager, with a newcomer's guide beside it, and a firm end."""

    def __init__(self, login: str, jobs: Sequence[str]) -> None:
        self._login, self._jobs = login, jobs
        self._terminal = Terminal(sys.stdout.fileno())
        super().__init__(printer.Printer(self._terminal))

    def terminate(self) -> None:
        if not self._all_started():  # honcho does not know yet what it has to stop
            raise SystemExit
        self._terminal.end_guide()
        super().terminate()

    def kill(self) -> None:
        # A job's process may hold the pipe that honcho reads from: it would wait for that, too.
        raise SystemExit

    def _start(self) -> None:
        super()._start()
        # Only now: a process must not be forked while threads run.
        told = self._terminal, self._login, self._jobs
        threading.Thread(target=_guide, args=told, daemon=True).start()


def _commands(schedule: str) -> dict[str, str]:
    """What to run, by name: the lines of the Procfile, and the parts that none of them starts."""
    procfile = Path("Procfile").read_text() if Path("Procfile").exists() else ""
    commands: dict[str, str] = dict(environ.parse_procfile(procfile).processes)
    commands.pop("release", None)
    words = {"scheduler": f" {schedule}"} if schedule or project.has_schedule() else {}
    for part in ("dashboard", "worker", *words):
        if not any(project.starts(part, command) for command in commands.values()):
            name = f"jiffy-{part}" if part in commands else part
            commands[name] = f"{Path(sys.executable).name} -m jiffy {part}{words.get(part, '')}"
    return commands


def _run(processes: Processes, commands: Mapping[str, str]) -> int:
    manager.KILL_WAIT = STOP_TIMEOUT_S
    given, last = settings(), settings().port
    programs = shlex.quote(str(Path(sys.executable).parent))
    for name, command in commands.items():
        port = given.port
        if not project.starts("dashboard", command):
            port = last = _free_port(given.host, last + 1)
        processes.add_process(f"{name}.1", f'export PATH={programs}:"$PATH" PORT={port}; {command}')
    with suppress(SystemExit):
        processes.loop()
    asked_to_stop = processes.returncode in (None, 130, 143)
    return 0 if asked_to_stop else int(processes.returncode or 0)


def _guide(terminal: Terminal, login: str, jobs: Sequence[str]) -> None:
    """Enqueue the sample jobs as a user would, then say where everything is."""
    results = [_type(terminal, f"{job} --wait") for job in jobs]
    _wait_for_web()
    told = [f"  Sample job      {result or 'not yet: see above'}\n" for result in results]
    terminal.say(f"\n{''.join(told)}{login}")


def _type(terminal: Terminal, arguments: str) -> str:
    """Run `jiffy enqueue` as if it had been typed; return the last line that it printed."""
    terminal.hold()
    terminal.say(f"\n$ {_enqueue()} {arguments}")
    # In a session of its own: Ctrl-C is for us, and what is left of it ends with us.
    typed = subprocess.Popen(
        [sys.executable, "-m", "jiffy", "enqueue", *shlex.split(arguments)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    limit = threading.Timer(SAMPLE_TIMEOUT_S, typed.terminate)
    limit.start()
    assert typed.stdout is not None  # a pipe
    lines = []
    for line in typed.stdout:
        lines.append(line.rstrip())
        terminal.say(lines[-1])
    limit.cancel()
    terminal.release()
    return lines[-1] if typed.wait() == 0 else ""


def _enqueue() -> str:
    """How to type `jiffy enqueue` in this folder."""
    python = os.path.relpath(sys.executable)
    return "jiffy enqueue" if shutil.which("jiffy") else f"{python} -m jiffy enqueue"


def _wait_for_web() -> None:
    url = f"http://{settings().host}:{settings().port}/healthz"
    deadline = clock.monotonic() + WEB_TIMEOUT_S
    while clock.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=WEB_TIMEOUT_S):
            return
        threading.Event().wait(0.05)


def _end_descendants() -> None:
    """Kill whatever still runs below this process, and wait until it is gone."""
    while pids := system.descendants(os.getpid()):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)
