"""What the queues did in the last day, as a page or as a table for a spreadsheet."""

import csv
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from io import StringIO
from pathlib import Path
from statistics import median
from typing import NamedTuple

from redis import Redis
from rq import get_current_job

from jiffy import progress, read
from jiffy.files import whole_file

HOURS, MOST_FAILURES = 24, 20
SECONDS = ("median_run_s", "longest_run_s", "median_wait_s")
COLUMNS = ("queue", "function", "finished", "failed", *SECONDS)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Jobs of the last day</title>
<style>
  :root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }}
  body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
  table {{ border-collapse: collapse; width: 100% }}
  th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884 }}
  td:last-child {{ overflow-wrap: anywhere }}
  .numbers :nth-child(n+3) {{ text-align: right; font-variant-numeric: tabular-nums }}
  svg {{ width: 100%; height: auto; fill: currentColor; font-size: 11px }}
  .finished {{ fill: #2a9d6f }}  .failed {{ fill: #d1495b }}
</style>
<h1>Jobs of the last day</h1>
<p>The 24 hours before {until:%d %B %Y, %H:%M} UTC: {counts}; waiting now: {waiting:,}.
<p>Only jobs that Redis still has are counted: a finished one is kept for its result_ttl.
<h2>Jobs per hour</h2>
<svg viewBox="0 0 960 192" role="img" aria-label="Finished and failed jobs in each hour">
{bars}
</svg>
<h2>By queue and function</h2>
<table class="numbers">{lines}</table>
<h2>Latest failures</h2>
<table>{failures}</table>
</html>
"""


def last_day(path: str, connection: Redis | None = None) -> str:
    """Write what the queues did in the last 24 hours to `path`, below JOBS_FILES; return `path`.

    `.csv` has a line per queue and function: jobs finished and failed, the median and the longest
    run and the median wait in seconds.  `.html` adds jobs per hour as a picture and the latest
    failures with their reasons.  An older report at `path` is replaced in one step.

    In a worker it reads the Redis that the job came from; called directly, pass a `connection`.
    Raises ValueError for another suffix, a path outside JOBS_FILES or no connection, and
    FileNotFoundError for a folder that does not exist.
    """
    if (write := WRITERS.get(Path(path).suffix.lower())) is None:
        raise ValueError(f"path is {path!r}; it must end in {' or '.join(WRITERS)}.")
    if job := get_current_job():
        connection = connection or job.connection
    if connection is None:
        raise ValueError("connection is not given, and there is no worker to take it from.")
    with whole_file(path) as file:
        file.write(write(Day(connection, datetime.now(UTC))).encode())
    return path


class Day:
    """The jobs that ended in the 24 hours before `until`, counted."""

    def __init__(self, redis: Redis, until: datetime) -> None:
        self.until, self.waiting = until, read.census(redis).counts["queued"]
        self.hours = [Counter[str]() for _ in range(HOURS)]  # the oldest first
        functions: dict[tuple[str, str], list[Run]] = defaultdict(list)
        failed: list[tuple[datetime, str, read.JobView]] = []
        for job in progress(read.EndedJobs(redis)):
            hours_ago = (until - job.ended) // timedelta(hours=1) if job.ended else -1
            if not job.ended or not 0 <= hours_ago < HOURS:
                continue
            outcome = "finished" if job.state == "finished" else "failed"
            self.hours[-1 - hours_ago][outcome] += 1
            run = Run(outcome, job.ran_s, job.waited_s)
            functions[job.queue, job.called or "(unknown)"].append(run)
            if outcome == "failed":
                failed = heapq.nlargest(MOST_FAILURES, [*failed, (job.ended, job.id, job)])
        self.lines = [[*name, *_summary(runs)] for name, runs in sorted(functions.items())]
        with_errors = read.jobs(redis, [job_id for _, job_id, _ in failed], with_errors=True)
        self.failures = [
            [f"{job.ended:%H:%M:%S}", job.id, job.queue, job.called, job.reason[:300]]
            for job in with_errors.values()
        ]


class Run(NamedTuple):
    outcome: str
    ran_s: float | None
    waited_s: float | None


def _summary(runs: list[Run]) -> list[float | str]:
    count = Counter(run.outcome for run in runs)
    ran_s = [run.ran_s for run in runs if run.ran_s is not None]
    waited_s = [run.waited_s for run in runs if run.waited_s is not None]
    times = ((median, ran_s), (max, ran_s), (median, waited_s))
    rounded = [round(pick(all_s), 3) if all_s else "" for pick, all_s in times]
    return [count["finished"], count["failed"], *rounded]


def _csv(day: Day) -> str:
    written = StringIO()
    rows = csv.writer(written)
    rows.writerow(COLUMNS)
    for line in day.lines:
        # A spreadsheet would run a string that begins like a formula.
        rows.writerow(f"'{x}" if isinstance(x, str) and x.startswith(FORMULA) else x for x in line)
    return written.getvalue()


def _html(day: Day) -> str:
    most = max(1, *(hour.total() for hour in day.hours))
    titles = [name.replace("_s", ", s").replace("_", " ") for name in COLUMNS]
    return PAGE.format(
        until=day.until,
        counts=_counts(sum(day.hours, Counter())),
        waiting=day.waiting,
        bars="\n".join(_bar(day.until, n, hour, most) for n, hour in enumerate(day.hours)),
        lines=_rows(titles, day.lines),
        failures=_rows(["ended", "job", "queue", "function", "reason"], day.failures),
    )


def _counts(of: Counter[str]) -> str:
    return f"{of['finished']:,} finished, {of['failed']:,} failed"


def _bar(until: datetime, number: int, count: Counter[str], most: int) -> str:
    """One hour: failed jobs stand on top of finished ones; the counts appear under the mouse."""
    begin = until - timedelta(hours=HOURS - number)
    left, low, high = number * 40, count["finished"] * 160 / most, count.total() * 160 / most
    return (
        f"<g><title>from {begin:%H:%M}: {_counts(count)}</title>"
        f'<rect class="failed" x="{left}" y="{172 - high:.1f}" width="34" height="{high:.1f}"/>'
        f'<rect class="finished" x="{left}" y="{172 - low:.1f}" width="34" height="{low:.1f}"/>'
        f'<text x="{left}" y="190">{begin:%H:%M}</text></g>'
    )


def _rows(titles: list[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [[x if isinstance(x, str) else f"{x:,}" for x in row] for row in rows]
    lines = [f"<tr><th>{'<th>'.join(titles)}"]
    lines += [f"<tr><td>{'<td>'.join(map(escape, row))}" for row in cells]
    return "\n".join(lines) if rows else "<tr><td>None."


WRITERS: dict[str, Callable[[Day], str]] = {".html": _html, ".csv": _csv}
