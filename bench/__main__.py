"""`python -m bench`: Jiffy beside its peers, on this machine, now.

Installs the peers, measures in interleaved runs (A B C, A B C, …), prints a table for each
measurement, and leaves all figures in build/bench/results.json and the tables in results.md.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from bench import proxy, report, server, tables
from bench.environments import CannotInstall
from bench.measures import MEASURES, Figures, Measure, Plan
from bench.stage import Entry, Fell, Stage, versions
from jiffy import clock

ENTRIES = {
    str(entry): entry
    for entry in (
        Entry("jiffy"),
        Entry("jiffy", "isolate", only="drain"),
        Entry("rq", "fork"),
        Entry("rq", "simple"),
        Entry("huey"),
        Entry("saq"),
        Entry("arq"),
        Entry("streaq"),
        Entry("taskiq", "stream"),
        Entry("taskiq", "list"),
        Entry("dramatiq", "default"),
        Entry("dramatiq", "prefetch"),
        Entry("celery", "prefork"),
        Entry("celery", "threads"),
        Entry("celery", "solo"),
        Entry("ardiq"),
        Entry("floor", "lasting", only="drain"),
        Entry("floor", "all", only="drain"),
    )
}

Results = dict[str, dict[str, list[Figures | str]]]
Thing = TypeVar("Thing")


def main() -> int:
    asked = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and stop what was started
    plan = _plan(asked)
    entries = _chosen(asked.only, ENTRIES)
    measures = [
        m for m in _chosen(asked.measure, MEASURES) if asked.with_latency or not m.is_distant
    ]
    with server.running() as url:
        about: dict[str, Any] = {
            "machine": report.machine(url),
            "measures": [measure.name for measure in measures],
            "runs": asked.runs,
            "plan": asdict(plan),
            "versions": {str(entry): _versions(entry, url) for entry in entries},
        }
        with _distant(url, asked.with_latency) as distant_url:
            about["far_ms"] = proxy.round_trip_s(distant_url) * 1000
            results = _run_all(entries, measures, plan, asked.runs, (url, distant_url))
    page = report.leave("quick" if asked.quick else "results", about, measures, results)
    print(f"{report.setting(about)}\n\nTables: {page}; all figures beside them.")
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
        able = [entry for entry in entries if measure.name.startswith(entry.only)]
        found = results[measure.name] = {str(entry): [] for entry in able}
        for run in range(runs):
            for entry in able:
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


def _in_short(outcome: Figures | str) -> str:
    if isinstance(outcome, str):
        return outcome
    return ", ".join(f"{name} {value:,.2f}" for name, value in outcome.items())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _chosen(names: str, all_of: Mapping[str, Thing]) -> list[Thing]:
    """Those whose names begin with one of `names`: `rq,drain` stands for all of their kinds."""
    if not names:
        return list(all_of.values())
    wanted = names.split(",")
    for name in wanted:
        if not any(known.startswith(name) for known in all_of):
            raise SystemExit(f"No {name!r} here; there are {', '.join(all_of)}.")
    return [thing for known, thing in all_of.items() if known.startswith(tuple(wanted))]


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
