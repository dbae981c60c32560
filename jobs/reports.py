"""Reports, written to files."""

import csv
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from html import escape
from io import StringIO
from pathlib import Path
from statistics import median

from redis import Redis
from rq import get_current_job

from jiffy.files import whole_file
from jobs import queue_day
from jobs.queue_day import HOURS, Day, Line

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
  .number {{ text-align: right; font-variant-numeric: tabular-nums }}
  svg {{ width: 100%; height: auto; fill: currentColor; font-size: 11px }}
  .finished {{ fill: #2a9d6f }}  .failed {{ fill: #d1495b }}
</style>
<h1>Jobs of the last day</h1>
<p>The 24 hours before {until}: {finished:,} finished, {failed:,} failed; waiting now: {waiting:,}.
<p>Counted are the jobs that Redis still has: finished ones go when their result does.
<h2>Jobs per hour</h2>
{picture}
<h2>By queue and function</h2>
{lines}
<h2>Latest failures</h2>
{failures}
</html>
"""
PICTURE = """\
<svg viewBox="0 0 960 200" role="img" aria-label="Finished and failed jobs in each hour">
<text x="0" y="12">{most:,}</text>
{bars}
</svg>"""
_BAR_WIDTH, _BAR_HEIGHT, _BASE = 40, 150, 172


def last_day(path: str, connection: Redis | None = None) -> str:
    """Write what the queues did in the last 24 hours to `path`, below JOBS_FILES; return `path`.

    `.csv` gives a line per queue and function: jobs finished and failed, the median and the longest
    run and the median wait in seconds.  `.html` adds jobs per hour as a picture and the latest
    failures with their reasons.  Only jobs that Redis still has are counted: give them a
    `result_ttl` of a day to see them all.  An older report at `path` is replaced in one step.

    In a worker it reads the Redis that the job came from; called directly, give a `connection`.
    Raises ValueError for another suffix, a path outside JOBS_FILES or no connection, and
    FileNotFoundError for no such folder.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"path is {path!r}; it must end in {' or '.join(WRITERS)}.")
    with whole_file(path) as file:
        day = queue_day.read(connection or _workers_connection(), datetime.now(UTC))
        file.write(WRITERS[suffix](day).encode())
    return path


def _workers_connection() -> Redis:
    job = get_current_job()
    if job is None:
        raise ValueError("connection is not given, and there is no worker to take it from.")
    return job.connection


def _csv(day: Day) -> str:
    text = StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for line in _sorted(day):
        rows.writerow([_harmless(cell(line)) for cell in COLUMNS.values()])
    return text.getvalue()


def _harmless(cell: object) -> object:
    """A spreadsheet would run a text that begins like a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _html(day: Day) -> str:
    return PAGE.format(
        until=f"{day.until:%d %B %Y, %H:%M} UTC",
        finished=sum(day.hours["finished"]),
        failed=sum(day.hours["failed"]),
        waiting=sum(day.waiting.values()),
        picture=_picture(day),
        lines=_table(COLUMNS, [[cell(line) for cell in COLUMNS.values()] for line in _sorted(day)]),
        failures=_table(
            ("ended", "job", "queue", "function", "reason"),
            [
                [f"{job.ended_at:%H:%M:%S}", job.job_id, job.queue, job.function, reason[:300]]
                for job, reason in day.failures
            ],
        ),
    )


def _table(head: Iterable[str], rows: list[list[object]]) -> str:
    if not rows:
        return "<p>None."
    titles = [name.replace("_s", ", s").replace("_", " ") for name in head]
    # A title stands above its numbers, on the right, or above its texts.
    top = (_cell("th", title, like=cell) for title, cell in zip(titles, rows[0], strict=True))
    below = ("".join(_cell("td", cell, like=cell) for cell in row) for row in rows)
    return "\n<tr>".join(["<table>", "".join(top), *below]) + "\n</table>"


def _cell(tag: str, cell: object, *, like: object) -> str:
    text = cell if isinstance(cell, str) else f"{cell:,}"
    return f"<{tag}{'' if isinstance(like, str) else ' class=number'}>{escape(text)}"


def _picture(day: Day) -> str:
    hours = list(zip(day.hours["finished"], day.hours["failed"], strict=True))
    most = max(finished + failed for finished, failed in hours)
    bars = "\n".join(
        _bar(number, day.until - timedelta(hours=HOURS - number), *counts, most=max(1, most))
        for number, counts in enumerate(hours)
    )
    return PICTURE.format(most=most, bars=bars)


def _bar(number: int, begin: datetime, finished: int, failed: int, *, most: int) -> str:
    """One hour: failed jobs stand on top of finished ones; what it says appears under the mouse."""
    left, low = number * _BAR_WIDTH, finished * _BAR_HEIGHT / most
    high = failed * _BAR_HEIGHT / most
    return (
        f"<g><title>from {begin:%H:%M}: {finished:,} finished, {failed:,} failed</title>"
        f'<rect class="finished" x="{left}" y="{_BASE - low:.1f}" width="34" height="{low:.1f}"/>'
        f'<rect class="failed" x="{left}" y="{_BASE - low - high:.1f}" width="34" '
        f'height="{high:.1f}"/><text x="{left}" y="190">{begin:%H:%M}</text></g>'
    )


def _sorted(day: Day) -> list[Line]:
    return [line for _, line in sorted(day.lines.items())]


def _rounded(pick: Callable[[list[float]], float], durations_s: list[float]) -> float | str:
    return round(pick(durations_s), 3) if durations_s else ""


COLUMNS: dict[str, Callable[[Line], object]] = {
    "queue": lambda line: line.queue,
    "function": lambda line: line.function,
    "finished": lambda line: line.finished,
    "failed": lambda line: line.failed,
    "median_run_s": lambda line: _rounded(median, line.runs_s),
    "longest_run_s": lambda line: _rounded(max, line.runs_s),
    "median_wait_s": lambda line: _rounded(median, line.waits_s),
}
WRITERS = {".html": _html, ".csv": _csv}
