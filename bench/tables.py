"""Figures made tables: medians of the runs, for a terminal and for Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median

from bench.measures import Figures, Measure

Cells = Sequence[str]

# measurement, figure, heading, format
_OVERVIEW = (
    ("drain2", "jobs_per_s", "2 workers, jobs/s", ",.0f"),
    ("drain10", "jobs_per_s", "10 workers, jobs/s", ",.0f"),
    ("drain-far", "jobs_per_s", "2 far workers, jobs/s", ",.0f"),
    ("drain10", "commands_per_job", "commands a job", ".1f"),
    ("drain10", "round_trips_per_job", "round trips a job", ".2f"),
    ("enqueue", "one_by_one_per_s", "enqueue, jobs/s", ",.0f"),
    ("enqueue", "bulk_per_s", "in bulk, jobs/s", ",.0f"),
    ("latency", "begun_ms", "to the first line, ms", ".2f"),
    ("latency", "result_ms", "to the result, ms", ".2f"),
    ("naps", "jobs_per_s", "100 ms waits, jobs/s", ".1f"),
    ("footprint", "pss_mb", "10 workers, MB", ".0f"),
)


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of each figure over the runs."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: median(run[name] for run in runs if name in run) for name in names}


def rows(measure: Measure, results: Mapping[str, Sequence[Figures | str]]) -> list[Cells]:
    """A row for each contestant, the heading first; who fell has the reason in place of figures."""
    headings = [heading for heading, _ in measure.columns.values()]
    return [["", *headings], *(_row(measure, name, runs) for name, runs in results.items())]


def overview(results: Mapping[str, Mapping[str, Sequence[Figures | str]]]) -> list[Cells]:
    """One table of what matters most, over all measurements that there are."""
    columns = [column for column in _OVERVIEW if column[0] in results]
    names = dict.fromkeys(name for measure, *_ in columns for name in results[measure])
    rows = [["", *(heading for _, _, heading, _ in columns)]]
    for name in names:
        cells = []
        for measure, figure, _, style in columns:
            runs = [run for run in results[measure].get(name, []) if not isinstance(run, str)]
            middle = medians(runs)
            cells.append(format(middle[figure], style) if figure in middle else "-")
        rows.append([name, *cells])
    return list(rows)


def as_text(table: Sequence[Cells]) -> str:
    """Columns of equal width, figures to the right; a reason runs on to the end of its line."""
    full = [row for row in table if len(row) == len(table[0])]
    widths = [max(len(row[at]) for row in full) for at in range(len(table[0]))]
    widths[0] = max(len(row[0]) for row in table)
    return "\n".join(_line(row, widths) for row in table)


def as_markdown(table: Sequence[Cells]) -> str:
    width = len(table[0])
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in table]
    return "\n".join([lines[0], "| --- |" + " --: |" * (width - 1), *lines[1:]])


def _row(measure: Measure, name: str, runs: Sequence[Figures | str]) -> Cells:
    figures = [run for run in runs if not isinstance(run, str)]
    reasons = [run for run in runs if isinstance(run, str)]
    if not figures:
        return [name, reasons[0]]
    middle = medians(figures)
    cells = [
        format(middle[figure], style) if figure in middle else "-"
        for figure, (_, style) in measure.columns.items()
    ]
    notes = [f"{middle['not_done']:,.0f} not done in time"] if middle.get("not_done") else []
    notes += [f"fell in {len(reasons)} of {len(runs)} runs: {reasons[0]}"] if reasons else []
    return [" ".join([name, *(f"({note})" for note in notes)]), *cells]


def _line(row: Cells, widths: Sequence[int]) -> str:
    if len(row) < len(widths):
        return f"{row[0]:<{widths[0]}}  {'  '.join(row[1:])}"
    first, *others = zip(row, widths, strict=True)
    return "  ".join([f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)])
