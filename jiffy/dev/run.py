"""`jiffy dev` and `make run`: Redis, all processes under honcho, and a sample job, until Ctrl-C."""

import errno
import io
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from dotenv.parser import parse_stream
from honcho import environ, manager, printer

from jiffy import clock, os_compat, redis_io
from jiffy.errors import InvalidSetting, JiffyError
from jiffy.producer import project
from jiffy.settings import set_environment, settings

LOGIN = """
  Dashboard       {url}
  Log in          {user} / {password}
  HTTP API        POST {url}api/jobs, Bearer {token}
  Your turn       {enqueue} {call} --wait
  Stop            Ctrl-C"""
# All is gone 5 s after Ctrl-C: honcho kills what is left after 3, we what is left after honcho.
manager.KILL_WAIT = 3
JOBS_GRACE_S = 2
WEB_TIMEOUT_S = 30
SAMPLE_TIMEOUT_S = 30
# How a file of the project ends that runs.
LAST_LINES = {
    "scheduler": "run_scheduler(SCHEDULE)",
    "worker": "run_worker(HOOKS)",
    "dashboard": 'main("dashboard")',
}
NOT_DONE = "The job is not done yet."


def run(schedule: str, jobs: Sequence[str]) -> int:
    """Start everything, stay up until Ctrl-C or SIGTERM, leave no process; return the exit code.

    `schedule` is an argument of `jiffy scheduler`, each of `jobs` the arguments of `jiffy enqueue`.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):  # honcho replaces these
        signal.signal(stop, lambda *_: sys.exit(0))
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` sets it
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    set_environment(_settings_file(), replace=False)
    redis_io.connected("run")  # starts the private Redis, which has to outlive us, so first
    print(f"Redis: {redis_io.describe(settings())}", flush=True)
    processes = _Manager(_choose_settings(), jobs)
    last, programs = settings().port, shlex.quote(str(Path(sys.executable).parent))
    for name, command in commands(schedule).items():
        port = settings().port
        if not project.starts("dashboard", command):
            port = last = free_port(settings().host, last + 1)
        processes.add_process(f"{name}.1", f'PATH={programs}:"$PATH" PORT={port}; {command}')
    os_compat.adopt_orphans()  # so that we can end them
    try:
        with suppress(SystemExit):
            processes.loop()
        print(processes.reason, end="", flush=True)
        return 0 if processes.returncode in (None, 130, 143) else int(processes.returncode)
    finally:
        while pids := os_compat.descendants(os.getpid()):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _settings_file() -> dict[str, str]:
    """What the file `.env` sets.  Raises JiffyError for a line that cannot be read."""
    if not Path(".env").exists():
        return {}
    found = {}
    with Path(".env").open(encoding="utf-8", errors="surrogateescape") as lines:  # as `os.environ`
        for line in parse_stream(lines):
            if line.error:
                text = line.original.string.strip()
                raise JiffyError(f".env, line {line.original.line}: {text!r} is no NAME=value.")
            if line.key and line.value is not None:
                found[line.key] = line.value
    return found


def _choose_settings() -> str:
    given = settings()
    port = free_port(given.host, given.port)
    if port != given.port:
        print(f"Port {given.port} is in use; the dashboard uses {port}.", flush=True)
    password, token = secrets.token_urlsafe(9), secrets.token_urlsafe(24)
    made = {
        "DASHBOARD_PASSWORD": password,
        "API_TOKEN": token,
        "PYTHONUNBUFFERED": "1",
        "RELOAD": "yes",
    }
    set_environment(made, replace=False)
    chosen = {"PORT": str(port), "HOST": given.host, "GRACE_S": str(JOBS_GRACE_S)}
    set_environment(chosen, replace=True)
    return LOGIN.format(
        url=f"http://{given.host}:{port}/",
        user=given.dashboard_user,
        password="your DASHBOARD_PASSWORD" if given.dashboard_password else password,
        token="your API_TOKEN" if given.api_token else token,
        enqueue=_enqueue_command(),
        call="jobs.numbers.add 2 3" if Path("jobs/numbers.py").exists() else "MODULE.FUNCTION",
    )


def _enqueue_command() -> str:
    python = os.path.relpath(sys.executable)
    return "jiffy enqueue" if shutil.which("jiffy") else f"{python} -m jiffy enqueue"


def free_port(host: str, first: int) -> int:
    """The first free port from `first` on."""
    for port in range(first, min(first + 100, 65536)):
        try:
            socket.create_server((host, port)).close()
            return port
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InvalidSetting("HOST", host, "an address of this machine") from None
    raise JiffyError(f"No free port from {first} upwards; set PORT to one that is free.")


def commands(schedule: str) -> dict[str, str]:
    """What to run, by name: the lines of the Procfile, and the parts that none of them starts."""
    procfile = Path("Procfile").read_text() if Path("Procfile").exists() else ""
    found: dict[str, str] = dict(environ.parse_procfile(procfile).processes)
    found.pop("release", None)
    parts = {"dashboard": "", "worker": ""}
    if schedule or project.has_schedule():
        parts["scheduler"] = f" {schedule}"
    for part, arguments in parts.items():
        if not any(project.starts(part, command) for command in found.values()):
            name = f"jiffy-{part}" if part in found else part
            found[name] = f"{Path(sys.executable).name} -m jiffy {part}{arguments}"
    return found


class _Manager(manager.Manager):  # type: ignore[misc] # honcho has no types
    def __init__(self, login: str, jobs: Sequence[str]) -> None:
        # Unbuffered: honcho also prints from a signal handler, maybe amid another print.
        raw = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
        super().__init__(printer.Printer(io.TextIOWrapper(raw, write_through=True)))
        self._login, self._jobs = login, jobs
        self.reason = ""  # why everything has stopped, unless it was told to

    def terminate(self) -> None:
        if not self._all_started():  # honcho does not know yet what it has to stop
            raise SystemExit
        for name, one in {} if self._terminating else self._processes.items():
            if (code := one.get("returncode")) is not None:
                self.reason = f"Everything has stopped: {name} ended by itself, with status {code}"
                self.reason += f"{_missing(one['obj'].cmd)}.\n"
        super().terminate()

    def kill(self) -> None:
        # A job's process may hold the pipe that honcho reads from: it would wait for that, too.
        raise SystemExit

    def _start(self) -> None:
        super()._start()
        # Only now: a process must not be forked while threads run.
        threading.Thread(target=self._guide, daemon=True).start()

    def _guide(self) -> None:
        """Enqueue the sample jobs as a user would, then show where everything is."""
        results = ""
        for job in self._jobs:
            self._show(f"$ {_enqueue_command()} {job} --wait")
            self._show(printed := _enqueue(job))
            results += f"\n  Sample job      {(printed.splitlines() or ['see above'])[-1]}"
            if printed == NOT_DONE:  # nor would the next ones be: people want to look at why
                break
        url = f"http://{settings().host}:{settings().port}/healthz"
        deadline = clock.monotonic() + WEB_TIMEOUT_S
        while clock.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(url, timeout=WEB_TIMEOUT_S):
                break
            threading.Event().wait(0.05)
        self._show(results + self._login)

    def _show(self, lines: str) -> None:
        if not self._terminating:
            self.events.put(printer.Message("line", lines, datetime.now(), "guide", None))  # noqa: DTZ005


def _missing(command: str) -> str:
    """What the project's file that this command runs lacks, to run; "" if it lacks nothing."""
    found = re.search(rf"\b({'|'.join(LAST_LINES)})\.py\b", command)
    if not found or not Path(found[0]).exists() or b"__main__" in Path(found[0]).read_bytes():
        return ""
    return f'. At its end, {found[0]} lacks `if __name__ == "__main__": {LAST_LINES[found[1]]}`'


def _enqueue(job: str) -> str:
    command = [sys.executable, "-m", "jiffy", "enqueue", *shlex.split(job), "--wait"]
    try:
        # In a session of its own: Ctrl-C is for us, and what is left of it ends with us.
        typed = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=SAMPLE_TIMEOUT_S, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return NOT_DONE
    return typed.stdout
