"""The tables of docs/compatibility.md: what people read there is what the proofs go by."""

import re
from collections.abc import Iterator
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"


def rows(first_heading: str, document: Path = DOCUMENT) -> Iterator[dict[str, str]]:
    """Yield the rows of the table whose first column is called `first_heading`, by heading.

    Back quotes around a cell are taken off.
    """
    headings: list[str] = []
    for line in document.read_text(encoding="utf-8").splitlines():
        cells = _cells(line)
        if not cells:
            headings = []
        elif cells[0] == first_heading:
            headings = cells
        elif headings and not re.fullmatch(r":?-+:?", cells[0]):
            yield dict(zip(headings, cells, strict=True))


def _cells(line: str) -> list[str]:
    """The cells of a line of a table; none for any other line."""
    if not line.startswith("|"):
        return []
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
