"""What a run of the bench leaves behind: all figures as JSON, and tables for a document."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redis import Redis

from bench import tables
from bench.environments import BUILD, ROOT
from bench.measures import Figures, Measure
from jiffy import clock

Results = Mapping[str, Mapping[str, Sequence[Figures | str]]]


def machine(url: str) -> dict[str, Any]:
    """On what the figures were measured, and which Jiffy."""
    with Redis.from_url(url) as redis:
        info: Any = redis.info("server")
    return {
        "date": clock.now().date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": platform.platform(terse=True),
        "server": _server(info),
        "commit": _commit(),
    }


def leave(
    name: str, about: Mapping[str, Any], measures: Sequence[Measure], results: Results
) -> Path:
    """Write NAME.json and NAME.md to the build folder; return the path of the latter."""
    BUILD.mkdir(parents=True, exist_ok=True)
    everything = {"about": about, "results": results}
    (BUILD / f"{name}.json").write_text(json.dumps(everything, indent=1))
    parts = [setting(about), tables.as_markdown(tables.overview(results))]
    for measure in measures:
        table = tables.rows(measure, results[measure.name])
        parts.append(f"### {measure.title}\n\n{tables.as_markdown(table)}")
    page = BUILD / f"{name}.md"
    page.write_text("\n\n".join(parts) + "\n")
    return page


def setting(about: Mapping[str, Any]) -> str:
    """What the figures hold for: the machine, the amounts, the versions."""
    where, plan = about["machine"], about["plan"]
    lines = [
        f"{where['date']}, {where['cores']} cores ({where['processor']}), {where['server']} "
        f"on the same machine over TCP, {plan['jobs']:,} jobs, results stored, medians of "
        f"{about['runs']} interleaved runs, commit {where['commit']}.",
        "",
    ]
    if "drain-far" in about["measures"]:
        lines[1:1] = [f"The far workers are {about['far_ms']:.2f} ms away from Redis."]
    for name, found in about["versions"].items():
        lines.append(f"- {name}: " + ", ".join(f"{what} {which}" for what, which in found.items()))
    return "\n".join(lines)


def _server(info: Mapping[str, Any]) -> str:
    """Valkey calls itself Redis 7.2.4 for the sake of clients."""
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
