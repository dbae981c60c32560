"""The table: one row a scenario and worker, for a terminal, for a page, and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.chaos.ledger import Fate, Row

MOST_DETAILS = 50
HEADINGS = [
    "scenario", "worker", "enqueued", *(fate.value for fate in Fate),
    "twice at once", "wrong count", "settled after",
]  # fmt: skip


def markdown(rows: Sequence[Row], deadline_s: float) -> str:
    """The table, as Markdown that is also good to read in a terminal."""
    cells = [HEADINGS, *(_cells(row, deadline_s) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [_line(line, widths) for line in cells]
    dashes = ["-" * widths[0], "-" * widths[1], *("-" * (width - 1) + ":" for width in widths[2:])]
    return "\n".join([lines[0], f"| {' | '.join(dashes)} |", *lines[1:]])


def details(row: Row) -> str:
    """What became of each job that was not simply done, and why."""
    lines = [f"    {job}: {fate}" for job, fate in sorted((row.wrong | row.details).items())]
    more = [f"    ... and {len(lines) - MOST_DETAILS} more"] if len(lines) > MOST_DETAILS else []
    return "\n".join(lines[:MOST_DETAILS] + more)


def as_json(rows: Sequence[Row], plan: dict[str, Any]) -> str:
    return json.dumps(
        {
            "plan": plan,
            "rows": [
                asdict(row) | {"fates": {fate.value: row.fates[fate] for fate in Fate}}
                for row in rows
            ],
        },
        indent=2,
        default=str,
    )


def _cells(row: Row, deadline_s: float) -> list[str]:
    settled = f"over {deadline_s:.0f} s" if row.settled_s is None else f"{row.settled_s:.1f} s"
    return [
        row.scenario.replace("_", " "), row.worker, str(row.enqueued),
        *(str(row.fates[fate]) for fate in Fate), str(row.beside_itself),
        str(len(row.wrong)), settled,
    ]  # fmt: skip


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
