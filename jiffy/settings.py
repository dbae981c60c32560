"""Every setting, in one table; nothing else reads settings from the environment.

`read()` checks them all at once; a value that cannot be used stops a process before it starts.
`.env.example` and docs/settings.md say what each is for.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from jiffy import os_compat
from jiffy.errors import InvalidSetting


class User(NamedTuple):
    """Who may use the dashboard; without a secret, only by single sign-on.

    `secret` is a hash as PASSWORD_HASH, or the password itself (DASHBOARD_PASSWORD).
    """

    name: str
    role: str
    secret: str

    def __str__(self) -> str:
        return f"{self.name}:{self.role}"


class _Kind(NamedTuple):
    """`parse` returns None, or raises ValueError, for a value that is not `must`."""

    parse: Callable[[str], Any]
    must: str


def _number(kind: type, least: float, most: float, must: str) -> _Kind:
    return _Kind(lambda value: kind(value) if least <= kind(value) <= most else None, must)


def _one_of(*names: str) -> _Kind:
    must = f"{', '.join(names[:-1])} or {names[-1]}"
    return _Kind(lambda value: {name.lower(): name for name in names}.get(value.lower()), must)


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _users(value: str) -> tuple[User, ...]:
    """Raises InvalidSetting, without what may be a password."""
    found: dict[str, User] = {}
    for number, written in enumerate(_names(value), 1):
        name, role, secret = (*written.split(":", 2), "", "")[:3]
        is_name = USER_NAME.fullmatch(name) or (name == "*" and not secret)
        is_secret = not secret or PASSWORD_HASH.fullmatch(secret)
        if not (is_name and is_secret and role in ROLES) or name in found:
            place = f"DASHBOARD_USERS, user {number},"
            must = "a new name, a role (viewer or operator) and a hash, as `jiffy user` prints"
            raise InvalidSetting(place, f"{name}:***" if role else "***", must)
        found[name] = User(name, role, secret)
    return tuple(found.values())


def _modules(value: str) -> tuple[str, ...] | None:
    return _names(value) if all(map(_is_module, _names(value))) and _names(value) else None


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _path(value: str) -> str | None:
    return value.rstrip("/") if PATH.fullmatch(value.rstrip("/")) else None


def _hosts(value: str) -> tuple[str, ...] | None:
    names = _names(value.lower())
    return names if all(map(_HOST.fullmatch, names)) else None


def is_reference(name: str) -> bool:
    """Whether `name` is something in a module, as `shop.queue:OPTIONS` is."""
    module, colon, variable = name.partition(":")
    return bool(colon) and _is_module(module) and variable.isidentifier()


def _redis_url(value: str) -> str:
    """Raises InvalidSetting, also for what the client would misread."""
    with suppress(ValueError):
        url = urlsplit(value)
        scheme = value.partition("://")[0]
        if scheme == "unix":
            is_valid = url.netloc == "" or url.netloc.endswith("@")
        elif scheme in ("redis", "rediss"):
            is_valid = re.fullmatch("/?([0-9]+/?)?", url.path) is not None
            url.port  # noqa: B018 - a ValueError if it is no number
        else:
            is_valid = scheme == "redis+sentinel" and "@" not in url.path
        options = [part for part in url.query.split("&") if part]
        if is_valid and not url.fragment and all("=" in option for option in options):
            return value
    raise invalid_redis_url(value)


def invalid_redis_url(url: str, must: str = "") -> InvalidSetting:
    """The error for a REDIS_URL; it says so where a raw # or / of a password cuts it in two."""
    rest = re.split("[][/?#]", url.partition("://")[2], maxsplit=1)[1:]
    must = _ENCODED if "@" in "".join(rest) else must or _REDIS_URLS
    return InvalidSetting("REDIS_URL", without_password(url), must)


_REDIS_URLS = (
    "a redis://, rediss://, unix:// or redis+sentinel:// URL, such as redis://:password@host:6379/0"
)
_ENCODED = "a URL whose password is percent-encoded: # is %23, / is %2F, ? is %3F, @ is %40"
LEAST_PASSWORD = 12
# In characters.  Anyone can get a cookie that is signed with SECRET_KEY, and try keys on that at
# home; nothing slows down who tries tokens.
_LEAST = {"SECRET_KEY": 32}
_LEAST_IN_PRODUCTION = {
    "DASHBOARD_PASSWORD": LEAST_PASSWORD, "API_TOKEN": 20, "API_READ_TOKEN": 20,
}  # fmt: skip
MAKE_SECRET_KEY = "python -c 'import secrets; print(secrets.token_hex(32))'"

ROLES = ("viewer", "operator")
PATH = re.compile(r"(/[\w.~-]+)+", re.ASCII)
_HOST = re.compile(r"[\w.-]+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*")  # a name, or an address
# The names of tokens stand in the audit, too.
USER_NAME = re.compile(r"(?!API_(READ_)?TOKEN\Z)[\w.@+-]{1,100}")
# As Werkzeug's, but with / where it has $, which shells replace.
PASSWORD_HASH = re.compile(r"scrypt:[0-9]+:[0-9]+:[0-9]+/\w+/[0-9a-f]{128}", re.ASCII)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

_TEXT = _Kind(str, "")
# What is no UTF-8 no form can hold, and no session be signed with; no header of ours holds more.
_UTF_8 = _Kind(lambda value: value.encode() and value, "text in UTF-8")
_TOKEN = _Kind(lambda value: value if re.fullmatch("[ -~]+", value) else None, "printable ASCII")
_YES_NO = _Kind(lambda value: _YES.get(value.lower()), "yes or no")
_COUNT = _number(int, 1, 10**12, "a whole number from 1")
_MB = _COUNT._replace(must="a whole number of MB")
_BYTES = _COUNT._replace(must="a whole number of bytes")
_LOG_BYTES = _number(int, 0, 200_000, "a number of bytes from 0 to 200000")
_MODULES = _Kind(_modules, "names of modules, separated by commas, such as jobs,billing.tasks")
_REFERENCE = _Kind(
    lambda value: value if is_reference(value) else None,
    "a module and a name in it, such as shop.queue:OPTIONS",
)
_PATH = _Kind(_path, "a path such as /jiffy")
_USERS = _Kind(_users, "")
_HEADER = _Kind(
    lambda value: value if re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", value) else None,
    "the name of a header, such as X-Forwarded-User",
)
_HOSTS = _Kind(_hosts, "host names without a port, separated by commas, such as jobs.example.com")
_SERIALIZERS = _Kind(
    lambda value: {"json": ("json",), "json,pickle": ("json", "pickle")}.get(
        value.replace(" ", "")
    ),
    "json or json,pickle",
)


def _setting(kind: _Kind, default: Any = None) -> Any:
    return field(default=default, metadata={"kind": kind})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of this process; each field is the environment variable of that name."""

    redis_url: str | None = _setting(_Kind(_redis_url, ""))
    redis_server: str | None = _setting(_TEXT)
    redis_tls_verify: bool | None = _setting(_YES_NO)
    web_connections: int = _setting(_COUNT, 4)
    jiffy_env: str = _setting(_one_of("development", "production"), "development")
    dyno: str | None = _setting(_UTF_8)
    release: str | None = _setting(_UTF_8)
    heroku_slug_commit: str | None = _setting(_UTF_8)
    port: int = _setting(_number(int, 1, 65535, "a port from 1 to 65535"), 8000)
    host: str = _setting(_TEXT, "127.0.0.1")
    dashboard_user: str = _setting(_UTF_8, "admin")
    dashboard_password: str | None = _setting(_UTF_8)
    dashboard_users: tuple[User, ...] = _setting(_USERS, ())
    auth_header: str | None = _setting(_HEADER)
    dashboard_login: bool = _setting(_YES_NO, True)
    read_only: bool = _setting(_YES_NO, False)
    url_prefix: str = _setting(_PATH, "")
    allowed_hosts: tuple[str, ...] = _setting(_HOSTS, ())
    trusted_proxies: int | None = _setting(_number(int, 0, 9, "a whole number from 0 to 9"))
    secret_key: str | None = _setting(_UTF_8)
    api_token: str | None = _setting(_TOKEN)
    api_read_token: str | None = _setting(_TOKEN)
    workers: int = _setting(_COUNT, os_compat.cores())
    grace_s: float = _setting(_number(float, 0, 1e9, "a number of seconds, such as 25"), 25.0)
    job_memory_mb: int | None = _setting(_MB)
    max_jobs_per_child: int | None = _setting(_COUNT)
    max_child_mb: int | None = _setting(_MB)
    job_max_bytes: int = _setting(_BYTES, 256_000)
    result_max_bytes: int = _setting(_BYTES, 1_000_000)
    job_log_bytes: int = _setting(_LOG_BYTES, 32_000)
    jobs_modules: tuple[str, ...] = _setting(_MODULES, ("jobs",))
    reload: bool = _setting(_YES_NO, False)
    options: str | None = _setting(_REFERENCE)
    hooks: str | None = _setting(_REFERENCE)
    jobs_files: str = _setting(_TEXT, "samples")
    serializers: tuple[str, ...] = _setting(_SERIALIZERS, ("json",))
    webhook_hosts: tuple[str, ...] = _setting(_HOSTS, ())
    isolate: bool = _setting(_YES_NO, False)
    log_level: str = _setting(_one_of("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine reaches the web app."""
        return self.host in LOOPBACK

    @property
    def is_production(self) -> bool:
        return self.dyno is not None or self.jiffy_env == "production"

    @property
    def this_release(self) -> str:
        """What to call the release that this process belongs to; "" where nothing says so."""
        return self.release or (self.heroku_slug_commit or "")[:8]


def read(environ: Mapping[str, str]) -> Settings:
    """Read the settings; empty means not set.  Raises InvalidSetting for the first invalid one."""
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        name, kind = setting.name.upper(), setting.metadata["kind"]
        if value := environ.get(name, "").strip():
            values[setting.name] = None
            with suppress(ValueError):
                values[setting.name] = kind.parse(value)
            if values[setting.name] is None:
                is_secret = name in _LEAST | _LEAST_IN_PRODUCTION
                shown = "***" if is_secret else without_password(value)
                raise InvalidSetting(name, shown, kind.must)
    found = Settings(**values)
    if found.api_read_token is not None and found.api_read_token == found.api_token:
        must = "different from API_TOKEN, which allows everything"
        raise InvalidSetting("API_READ_TOKEN", "***", must)
    for name, least in (_LEAST | (_LEAST_IN_PRODUCTION if found.is_production else {})).items():
        if len(values.get(name.lower(), "*" * least)) < least:
            must = f"at least {least} characters, such as {MAKE_SECRET_KEY} prints"
            raise InvalidSetting(name, "***", must)
    _check_users(found)
    is_known = found.is_production or not found.is_on_loopback or found.auth_header
    if not found.dashboard_login and is_known:
        must = f"yes, unless HOST is one of {', '.join(LOOPBACK)}, in development"
        must += ", without AUTH_HEADER"
        raise InvalidSetting("DASHBOARD_LOGIN", "no", must)
    return found


def _check_users(found: Settings) -> None:
    if found.auth_header and not found.trusted_proxies:
        must = "set together with TRUSTED_PROXIES, since only a proxy can vouch for it"
        raise InvalidSetting("AUTH_HEADER", found.auth_header, must)
    for user in found.dashboard_users:
        if user.name == found.dashboard_user and found.dashboard_password:
            must = "none of DASHBOARD_USERS, since it has DASHBOARD_PASSWORD"
            raise InvalidSetting("DASHBOARD_USER", user.name, must)
        if not user.secret and not found.auth_header:
            must = "given a hash, as `jiffy user` prints it, unless AUTH_HEADER is set"
            raise InvalidSetting("A user of DASHBOARD_USERS", user.name, must)


def without_password(url: str) -> str:
    """A URL as it may be shown: what stands before its host is hidden, and any password."""
    url = re.sub(r"^(\w[\w+]*://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", url)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return read(os.environ)


def set_environment(values: Mapping[str, str], *, replace: bool) -> None:
    """Give this process, and those that it starts, `values`; `replace` those that are set."""
    for name, value in values.items():
        if replace or not os.environ.get(name, "").strip():
            os.environ[name] = value
    settings.cache_clear()
