"""Redis and this process: what a person checks when nothing on the other pages explains it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from flask import Blueprint, render_template
from redis import Redis
from redis.exceptions import RedisError

from jiffy import clock, redis_io
from jiffy.control import read
from jiffy.dashboard import memory
from jiffy.dashboard.frame import census, kept
from jiffy.dashboard.pages import size
from jiffy.producer.masking import MASK, is_secret
from jiffy.redis_io import Memory
from jiffy.settings import Settings, settings, without_password

page = Blueprint("system", __name__)

_MOST_SLOW = 20
_MEMORY_S = 60.0
_CONFIG = ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save", "maxclients")


@dataclass(frozen=True)
class Slow:
    """A command that took long; its arguments are not kept: they may hold secrets."""

    at: datetime
    took_s: float
    command: str
    client: str


@dataclass(frozen=True)
class Server:
    """What Redis says of itself; None where it does not permit the question."""

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None
    clients: Mapping[str, int] | None  # name -> number of connections
    slow: tuple[Slow, ...] | None

    def facts(self, memory: Memory, forecast: str) -> list[tuple[str, str, str]]:
        """(name, value, what is wrong with it)."""
        info, config = self.info or {}, self.config or {}
        used, most = info.get("used_memory", 0), info.get("maxmemory", 0)
        policy = info.get("maxmemory_policy") or config.get("maxmemory-policy", "")
        kept = _persistence(info, self.config)
        used_of_most = f"{size(used)} of {size(most)} ({used / most:.0%})" if most else size(used)
        loses = "a restart of Redis loses every job: set appendonly yes"
        return [
            ("Version", _version(info), ""),
            ("Running for", clock.in_words(info.get("uptime_in_seconds", 0)), ""),
            ("Memory", f"{used_of_most}, at most {size(info.get('used_memory_peak', 0))} so far",
             "memory is nearly full" if memory.is_nearly_full else ""),
            *([("Forecast", forecast, "")] if forecast else ()),
            ("Eviction", policy or "unknown",
             "jobs are lost when the memory is full: set maxmemory-policy noeviction"
             if memory.evicts else ""),
            ("Persistence", kept or "none", loses if memory.is_kept is False else ""),
            ("Connections", _of(info.get("connected_clients", 0), _most_clients(self)), ""),
            ("Commands a second", f"{info.get('instantaneous_ops_per_sec', 0):,}", ""),
            ("Replicas", f"{info.get('connected_slaves', 0):,}", ""),
        ]  # fmt: skip


@page.get("/system")
def system() -> str:
    seen, found = census(), look(redis_io.shared())
    use = kept("memory", lambda redis: memory.look(redis, seen), _MEMORY_S)
    forecast = use.forecast(seen.memory.used, seen.memory.most)
    return render_template(
        "system.html",
        redis=found,
        facts=found.facts(seen.memory, forecast),
        use=use,
        used=max(1, seen.memory.used),
        most=_most_clients(found),
        settings=_settings(settings()),
    )


def look(redis: Redis) -> Server:
    """Ask Redis about itself, in one round trip."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.info()
        pipe.config_get(*_CONFIG)
        pipe.client_list()
        pipe.slowlog_get(_MOST_SLOW)
        found = pipe.execute(raise_on_error=False)
    info, config, clients, slow = (None if isinstance(one, RedisError) else one for one in found)
    return Server(
        info,
        config,
        None if clients is None else _by_name(clients),
        None if slow is None else tuple(map(_slow, slow)),
    )


def _by_name(clients: list[dict[str, str]]) -> dict[str, int]:
    """Those of our processes by what they do: jiffy:worker."""
    names = [client.get("name", "") for client in clients]
    roles = (":".join(name.split(":")[:2]) if name.startswith("jiffy:") else name for name in names)
    return dict(Counter(read.clip(role, 60) or "without a name" for role in roles).most_common())


def _most_clients(found: Server) -> int | None:
    """How many connections Redis, or its plan, permits."""
    most = (found.info or {}).get("maxclients") or (found.config or {}).get("maxclients")
    return int(most) if most else None


def _slow(found: Mapping[str, Any]) -> Slow:
    command = read.text(found["command"]).split(" ")[0].upper()
    return Slow(
        clock.from_wall(found["start_time"]),
        found["duration"] / 1e6,
        read.clip(command, 40),
        read.line(found.get("client_name", b"")),
    )


def _persistence(info: Mapping[str, Any], config: Mapping[str, str] | None) -> str:
    """How Redis keeps its data; "" where it does not."""
    if info.get("aof_enabled"):
        fsync = (config or {}).get("appendfsync")
        return f"append-only file{f', fsync {fsync}' if fsync else ''}"
    if config is None:
        return "unknown: Redis does not permit CONFIG GET"
    return f"snapshots ({config['save']})" if config.get("save") else ""


def _version(info: Mapping[str, Any]) -> str:
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', '')}"


def _settings(config: Settings) -> list[tuple[str, str, bool]]:
    """(name, value, whether it is the default); secrets are masked."""
    rows = []
    for setting in fields(config):
        value, name = getattr(config, setting.name), setting.name.upper()
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if value in (None, ()):
            shown = "not set"
        elif is_secret(setting.name) or setting.name.endswith("_key"):
            shown = MASK
        rows.append((name, without_password(shown), value == setting.default))
    return rows


def _of(count: int, most: int | None) -> str:
    return f"{count:,} of {most:,}" if most else f"{count:,}"
