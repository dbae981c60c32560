"""The tables, as Markdown that is also good to read in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.schedule.ledger import Count

HEADINGS = [
    "scenario", "scheduler", "runs due", "enqueued", "missing", "doubled",
    "late p50", "p99", "max",
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    scenario: str
    contestant: str
    count: Count

    def cells(self) -> list[str]:
        count = self.count
        return [
            self.scenario, self.contestant, str(count.expected), str(count.enqueued),
            str(count.missing), str(count.doubled), *(_ms(count.late(at)) for at in (50, 99, 100)),
        ]  # fmt: skip


def scenarios(rows: Sequence[Row]) -> str:
    return table(HEADINGS, [row.cells() for row in rows])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], words: int = 2) -> str:
    """A table whose first columns are `words`, to the left; the others are numbers."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str], fill: str = " ") -> str:
        padded = [
            cell.ljust(width, fill) if number < words else cell.rjust(width, fill)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    dashes = ["-" if number < words else ":" for number in range(len(widths))]
    return "\n".join([line(headings), line(dashes, "-"), *map(line, rows)])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
