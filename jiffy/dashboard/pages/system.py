"""Redis and this process: what a person checks when nothing on the other pages explains it.

For monitors: `/healthz` and, for Prometheus, `/metrics`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, NamedTuple

from flask import Blueprint, Response, render_template
from redis import Redis
from redis.exceptions import RedisError

import jiffy
from jiffy import clock, history, keys, redis_io
from jiffy.control.read import Census
from jiffy.control.values import Fields, answer, clip, line, number, text
from jiffy.dashboard.frame import census, kept
from jiffy.dashboard.words import size
from jiffy.producer.masking import MASK, is_secret
from jiffy.redis_io import Memory
from jiffy.settings import Settings, settings, without_password

page = Blueprint("system", __name__)
health_page = Blueprint("health", __name__)

_MOST_SLOW = 20
_RUNS = ("enqueued", "skipped", "missed")
_MEMORY_S = 60.0
_CONFIG = ("maxmemory-policy", "appendfsync", "save", "maxclients")
_SAMPLED = 300  # keys
_FIELDS = 50  # of a key: all of a job, the largest of which may be nearly all that it takes
_MEASURED = 40  # lists and registries, the longest ones
_LEAST_FORECAST_S = 3600
_LISTS, _HISTORY = "queues and registries", "history"  # are measured, not sampled
_KINDS = (
    (keys.queue(""), _LISTS),
    *((prefix, _LISTS) for prefix in keys.REGISTRIES.values()),
    (keys.job(""), "jobs"),
    (keys.results(""), "results of jobs"),
    (keys.history(""), _HISTORY),
    (keys.OWN, "Jiffy's other keys"),
    (keys.RQ, "RQ's other keys"),
    ("", "keys of others"),
)


@page.get("/system")
def system() -> str:
    seen = census()
    with redis_io.shared().pipeline(transaction=False) as pipe:
        pipe.info()
        pipe.client_list()
        pipe.slowlog_get(_MOST_SLOW)
        for name in _CONFIG:  # Redis 6.2 takes one name at a time
            pipe.config_get(name)
        info, clients, slow, *found = map(_permitted, pipe.execute(raise_on_error=False))
    config = None if None in found else {name: one[name] for one in found for name in one}
    # Those of our processes by what they do: jiffy:worker.
    names = [client.get("name", "") for client in clients or ()]
    roles = (":".join(name.split(":")[:2]) if name.startswith("jiffy:") else name for name in names)
    by_name = Counter(clip(role, 60) or "without a name" for role in roles).most_common()
    use = kept("memory", lambda redis: use_of(redis, census()), _MEMORY_S)
    # How many connections Redis, or its plan, permits.
    most = int((info or {}).get("maxclients") or (config or {}).get("maxclients") or 0)
    return render_template(
        "system.html",
        info=info,
        facts=_facts(info or {}, config, seen.memory, most, use),
        slow=None if slow is None else [*map(_slow, slow)],
        clients=None if clients is None else dict(by_name),
        use=use,
        used=max(1, seen.memory.used),
        most=most,
        settings=_settings(settings()),
    )


def _permitted(answer: Any) -> Any:
    """None where Redis does not permit it, or the key holds another type."""
    return None if isinstance(answer, RedisError) else answer


def _facts(
    info: Mapping[str, Any], config: Mapping[str, str] | None, memory: Memory, most: int, use: "Use"
) -> list[tuple[str, str, str]]:
    """(name, value, what is wrong with it)."""
    used, most_bytes = info.get("used_memory", 0), info.get("maxmemory", 0)
    policy = info.get("maxmemory_policy") or (config or {}).get("maxmemory-policy", "")
    valkey, redis = info.get("valkey_version"), info.get("redis_version", "")
    of_most = f" of {size(most_bytes)} ({used / most_bytes:.0%})" if most_bytes else ""
    peak = size(info.get("used_memory_peak", 0))
    forecast = use.forecast(memory.used, memory.most)
    full = "memory is nearly full" if memory.is_nearly_full else ""
    evicts = "jobs are lost when the memory is full: set maxmemory-policy noeviction"
    loses = "a restart of Redis loses every job: set appendonly yes"
    if info.get("aof_enabled"):
        fsync = (config or {}).get("appendfsync")
        kept_by = f"append-only file{f', fsync {fsync}' if fsync else ''}"
    elif config is None:
        kept_by = "unknown: Redis does not permit CONFIG GET"
    else:
        kept_by = f"snapshots ({config['save']})" if config.get("save") else "none"
    clients = f"{info.get('connected_clients', 0):,}" + (f" of {most:,}" if most else "")
    return [
        ("Version", f"Valkey {valkey}" if valkey else f"Redis {redis}", ""),
        ("Running for", clock.in_words(info.get("uptime_in_seconds", 0)), ""),
        ("Memory", f"{size(used)}{of_most}, at most {peak} so far", full),
        *([("Forecast", forecast, "")] if forecast else ()),
        ("Eviction", policy or "unknown", evicts if memory.evicts else ""),
        ("Persistence", kept_by, loses if memory.is_kept is False else ""),
        ("Connections", clients, ""),
        ("Commands a second", f"{info.get('instantaneous_ops_per_sec', 0):,}", ""),
        ("Replicas", f"{info.get('connected_slaves', 0):,}", ""),
    ]


def _slow(found: Mapping[str, Any]) -> dict[str, Any]:
    """A command that took long; its arguments are not kept: they may hold secrets."""
    return {
        "at": clock.from_wall(found["start_time"]),
        "took_s": found["duration"] / 1e6,
        "command": clip(text(found["command"]).split(" ")[0].upper(), 40),
        "client": line(found.get("client_name", b"")),
    }


def _settings(config: Settings) -> list[tuple[str, str, bool]]:
    """(name, value, whether it is the default); secrets are masked."""
    rows = []
    for setting in fields(config):
        value, name = getattr(config, setting.name), setting.name.upper()
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if value in (None, (), ""):
            shown = "not set"
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        elif is_secret(setting.name) or setting.name.endswith("_key"):
            shown = MASK
        # The name of a file may be any bytes.
        written = without_password(shown).encode(errors="replace").decode()
        rows.append((name, written, value == setting.default))
    return rows


# Where memory goes, estimated from a bounded sample of keys, and when it is full


class Use(NamedTuple):
    """The bytes of each kind of key, the most first; and what Redis used over the last day."""

    kinds: list[tuple[str, int]]
    past: list[tuple[float, int]]

    def forecast(self, used: int, most: int) -> str:
        """When it is full at the present rate, in words; "" where that cannot be said."""
        if len(self.past) < 2 or (watched_s := self.past[-1][0] - self.past[0][0]) < (
            _LEAST_FORECAST_S
        ):
            return ""
        per_day = (self.past[-1][1] - self.past[0][1]) / watched_s * 86400
        watched = clock.in_words(round(watched_s))
        if per_day < max(used, 1) / 100:
            return f"it has not grown in {watched}"
        if not most:
            return f"it grows by {per_day / (1 << 20):,.0f} MB a day"
        days = max(0, most - used) / per_day
        when = f"{days:,.0f} days" if days >= 2 else clock.in_words(round(days * 1440) * 60)
        return f"full in about {when} at the rate of the last {watched}"


def use_of(redis: Redis, seen: Census) -> Use:
    """In two round trips; without kinds where Redis does not permit it."""
    lists = Counter(
        {
            keys.jobs_in(state, queue.name): count
            for queue in seen.queues
            for state, count in queue.counts.items()
        }
    )
    longest = dict(lists.most_common(_MEASURED))
    with redis.pipeline(transaction=False) as pipe:
        pipe.dbsize()
        pipe.hvals(history.MEMORY_KEY)
        for _ in range(_SAMPLED):
            pipe.randomkey()
        count, past, *found = map(_permitted, pipe.execute(raise_on_error=False))
    sampled = [key for key in found if isinstance(key, bytes)]
    measured: list[str] = [*longest, *history.stored_keys(seen.taken.timestamp())]
    with redis.pipeline(transaction=False) as pipe:
        for key in [*map(str.encode, measured), *sampled]:
            pipe.memory_usage(key, samples=_FIELDS)
        sizes = [_permitted(one) or 0 for one in pipe.execute(raise_on_error=False)]
    kinds = Counter({_HISTORY: sum(sizes[len(longest) : len(measured)])})
    if members := longest and sum(longest.values()):
        kinds[_LISTS] = sum(sizes[: len(longest)]) * lists.total() // members
    shares = defaultdict[str, int](int)
    for raw, used in zip(sampled, sizes[len(measured) :], strict=True):
        name = text(raw)
        shares[next(kind for prefix, kind in _KINDS if name.startswith(prefix))] += used
    for kind in shares.keys() - {_LISTS, _HISTORY}:
        kinds[kind] += (count or 0) * shares[kind] // len(sampled)
    return Use([(kind, used) for kind, used in kinds.most_common() if used], history.memory(past))


# For monitors: counted at most once a second, with what the pages show


@health_page.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    version = {"version": jiffy.__version__}
    try:
        redis_io.check(redis_io.shared())
        found = {"workers": census().workers, "scheduler": census().scheduler}
        # 200 without a scheduler, too: a platform would restart the web process otherwise.
        return {"redis": "ok", **found, **version}, 200
    except RedisError as error:
        redis_io.let_go(error)
        known = redis_io.explained(error)
        state = "away" if known and known.exit_code == 1 else "refused"
        # Without the URL: this needs no login.
        remedy = {"remedy": known.remedy} if known else {}
        return {"redis": state, "reason": redis_io.reason_of(error), **remedy, **version}, 503


@health_page.get("/metrics")
def metrics() -> Response:
    """It needs a token of the API, which `auth.py` checks."""
    # It takes 0.1 s to load, and most installations never use it.
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    seen = census()
    jobs = GaugeMetricFamily("jiffy_jobs", "Jobs that Redis holds.", labels=["queue", "state"])
    about = "How long the job at the front of the queue has waited."
    oldest = GaugeMetricFamily("jiffy_oldest_job_seconds", about, labels=["queue"])
    for queue in seen.queues:
        oldest.add_metric([queue.name], queue.waited_s(seen.taken))
        for state, count in queue.counts.items():
            jobs.add_metric([queue.name, state], count)
    for state, count in seen.counts_apart.items():
        jobs.add_metric(["", state], count)
    workers = GaugeMetricFamily("jiffy_workers", "Workers that are alive.", labels=["state"])
    # Both are there without any worker, too.
    for state, count in ({"busy": 0, "idle": 0} | dict(seen.states)).items():
        workers.add_metric([state], count)
    is_up = seen.scheduler == "ok"
    families = [
        jobs, oldest, workers,
        GaugeMetricFamily("jiffy_scheduler_up", "Whether a scheduler is alive.", is_up),
        GaugeMetricFamily("jiffy_schedule_entries", "Entries with a run to come.", seen.entries),
    ]  # fmt: skip
    if seen.next_run is not None:
        due_s = (seen.next_run - seen.taken).total_seconds()
        about = "Seconds until the next run is due; negative if it is late."
        families.append(GaugeMetricFamily("jiffy_schedule_next_due_seconds", about, due_s))
    runs = CounterMetricFamily("jiffy_ticks", "Runs of the schedule.", labels=["outcome"])
    found = answer(redis_io.shared().hmget, keys.TICK_COUNTS, _RUNS) or ()
    read = Fields(dict(zip(_RUNS, found, strict=False)))
    for outcome in _RUNS:
        runs.add_metric([outcome], read(outcome, number, None) or 0)
    text = generate_latest(SimpleNamespace(collect=lambda: [*families, runs]))
    return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)
