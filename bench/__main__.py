"""`python -m bench`: Jiffy beside its peers, on this machine, now.

Installs the peers, measures in interleaved runs (A B C, A B C, …), prints a table for each
measurement, and leaves all figures in build/bench/results.json and the tables in results.md.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis

from bench import proxy, server, tables
from bench.environments import BUILD, CannotInstall
from bench.measures import MEASURES, Figures, Measure, Plan
from bench.stage import Entry, Fell, Stage, versions
from jiffy import clock

ENTRIES = {
    str(entry): entry
    for entry in (
        Entry("jiffy"),
        Entry("rq", "fork"),
        Entry("rq", "simple"),
        Entry("huey"),
        Entry("saq"),
    )
}

Results = dict[str, dict[str, list[Figures | str]]]
Thing = TypeVar("Thing")


def main() -> int:
    asked = _parser().parse_args()
    plan = _plan(asked)
    entries = _chosen(asked.only, ENTRIES)
    measures = [
        m for m in _chosen(asked.measure, MEASURES) if asked.with_latency or not m.is_distant
    ]
    with server.running() as url:
        about: dict[str, Any] = {"machine": _machine(url), "runs": asked.runs, "plan": asdict(plan)}
        about["versions"] = {str(entry): _versions(entry, url) for entry in entries}
        with _distant(url, asked.with_latency) as distant_url:
            results = _run_all(entries, measures, plan, asked.runs, (url, distant_url))
    _leave(about, measures, results)
    return 0


def _run_all(
    entries: Sequence[Entry],
    measures: Sequence[Measure],
    plan: Plan,
    runs: int,
    urls: tuple[str, str],
) -> Results:
    results: Results = {}
    for measure in measures:
        found = results[measure.name] = {str(entry): [] for entry in entries}
        for run in range(runs):
            for entry in entries:
                outcome = _once(entry, measure, plan, urls)
                found[str(entry)].append(outcome)
                _say(f"{measure.name} {run + 1}/{runs} {entry}: {_in_short(outcome)}")
        print(f"\n{measure.title}\n\n{tables.as_text(tables.rows(measure, found))}\n", flush=True)
    return results


def _once(entry: Entry, measure: Measure, plan: Plan, urls: tuple[str, str]) -> Figures | str:
    """The figures of one run, or why there are none."""
    near, far = urls
    workers_url = far if measure.is_distant else near
    try:
        with Stage(entry, measure.name, near, workers_url) as stage:
            return measure.run(stage, plan)
    except (Fell, CannotInstall) as reason:
        return str(reason)


@contextmanager
def _distant(url: str, latency_s: float | None) -> Iterator[str]:
    if latency_s is None:
        yield url
        return
    with proxy.longer(url, latency_s) as longer:
        yield longer


def _versions(entry: Entry, url: str) -> Mapping[str, str]:
    try:
        return versions(entry, url)
    except (Fell, CannotInstall) as reason:
        return {"missing": str(reason)}


def _machine(url: str) -> dict[str, Any]:
    with Redis.from_url(url) as redis:
        info: Any = redis.info("server")
    return {
        "date": clock.now().date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": platform.platform(),
        "redis": info["redis_version"],
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def _leave(about: Mapping[str, Any], measures: Sequence[Measure], results: Results) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    everything = {"about": about, "results": results}
    (BUILD / "results.json").write_text(json.dumps(everything, indent=1))
    parts = [_setting(about)]
    for measure in measures:
        table = tables.rows(measure, results[measure.name])
        parts.append(f"### {measure.title}\n\n{tables.as_markdown(table)}")
    (BUILD / "results.md").write_text("\n\n".join(parts) + "\n")
    print(f"{_setting(about)}\n\nAll figures: {BUILD / 'results.json'}; tables: results.md")


def _setting(about: Mapping[str, Any]) -> str:
    """What the figures hold for: the machine, the amounts, the versions."""
    machine, plan = about["machine"], about["plan"]
    lines = [
        f"{machine['date']}, {machine['cores']} cores ({machine['processor']}), "
        f"Redis {machine['redis']} on the same machine over TCP; {plan['jobs']:,} jobs; "
        f"medians of {about['runs']} interleaved runs; results stored.",
        "",
    ]
    for name, found in about["versions"].items():
        lines.append(f"- {name}: " + ", ".join(f"{what} {which}" for what, which in found.items()))
    return "\n".join(lines)


def _in_short(outcome: Figures | str) -> str:
    if isinstance(outcome, str):
        return outcome
    return ", ".join(f"{name} {value:,.2f}" for name, value in outcome.items())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _chosen(names: str, all_of: Mapping[str, Thing]) -> list[Thing]:
    """Those that `names` names, with commas between; `rq` stands for all of its variants."""
    if not names:
        return list(all_of.values())
    wanted = names.split(",")
    for name in wanted:
        if not any(_is_meant(name, known) for known in all_of):
            raise SystemExit(f"No {name!r} here; there are {', '.join(all_of)}.")
    return [thing for known, thing in all_of.items() if any(_is_meant(n, known) for n in wanted)]


def _is_meant(name: str, known: str) -> bool:
    return known == name or known.startswith(f"{name}:") or known.rstrip("0123456789") == name


def _plan(asked: argparse.Namespace) -> Plan:
    plan = Plan().quick() if asked.quick else Plan()
    return Plan(**(asdict(plan) | ({"jobs": asked.jobs} if asked.jobs else {})))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="A,B", help=", ".join(ENTRIES))
    parser.add_argument("--measure", default="", metavar="A,B", help=", ".join(MEASURES))
    parser.add_argument("--jobs", type=int, metavar="N", help="in a full queue (20,000)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of which the median (3)")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    parser.add_argument(
        "--with-latency",
        type=lambda text: clock.seconds(text, "--with-latency"),
        metavar="1ms",
        help="measure also with workers that are that far from Redis",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
