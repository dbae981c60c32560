"""Charts as shapes for SVG: plain functions from the points of a history."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from jiffy import clock
from jiffy.history import FLOW_S, Flow, Point

WIDTH, HEIGHT = 720, 120
_ENDS = ("done", "retried", "interrupted", "failed")  # from the bottom up


class Bar(NamedTuple):
    """A part of a column; `kind` colours it."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class Column(NamedTuple):
    """One point: its bars, and what they say in words."""

    bars: list[Bar]
    title: str
    x: float
    width: float


class Line(NamedTuple):
    """Pieces of a line, without the points where nothing was measured."""

    pieces: list[str]
    kind: str


def columns(points: Sequence[Point]) -> tuple[list[Column], int]:
    """How many attempts ended how, a column for each point; and how many the highest stands for."""
    highest = max((point.attempts for point in points), default=0)
    width = WIDTH / max(1, len(points))
    found = []
    for place, point in enumerate(points):
        bars, y = [], float(HEIGHT)
        for kind in _ENDS:
            if count := getattr(point, kind):
                # The least failure is seen, too.
                height = max(count / highest * HEIGHT, 1.5)
                y -= height
                bars.append(Bar(place * width, max(0.0, y), width * 0.8, height, kind))
        found.append(Column(bars, _title(point), place * width, width))
    return found, highest


def lines(
    points: Sequence[Point], kinds: dict[str, Callable[[Point], float | None]]
) -> tuple[list[Line], float]:
    """A line for each kind, on one scale; and how many seconds its top stands for."""
    values = {kind: [of(point) for point in points] for kind, of in kinds.items()}
    highest = max((one for row in values.values() for one in row if one is not None), default=0.0)
    return [Line(list(_pieces(row, highest or 1.0)), kind) for kind, row in values.items()], highest


class Mark(NamedTuple):
    """A moment on a chart."""

    x: float
    name: str
    at: datetime


def marks(moments: Mapping[str, datetime], whole: Point) -> list[Mark]:
    """Those of the moments that a chart of this time shows."""
    found = [
        Mark((at - whole.start).total_seconds() / whole.seconds * WIDTH, name, at)
        for name, at in moments.items()
    ]
    return [mark for mark in found if mark.x >= 0]


class Spark(NamedTuple):
    """A queue's last minutes: a bar for what ended in each sample, a line for what waited."""

    bars: list[tuple[float, float]]  # x, height
    line: str
    most_waiting: int


def spark(flow: Flow) -> Spark:
    end_s = flow.samples[-1].at_s
    xs = [WIDTH * (1 - (end_s - one.at_s) / FLOW_S) for one in flow.samples]
    most_ended = max(one.ended for one in flow.samples) or 1
    most_waiting = max(one.waiting for one in flow.samples)
    return Spark(
        [
            (x, max(one.ended / most_ended * HEIGHT, 6))
            for x, one in zip(xs, flow.samples, strict=True)
            if one.ended
        ],
        " ".join(
            f"{x:.0f},{HEIGHT - 4 - one.waiting / most_waiting * (HEIGHT - 8):.0f}"
            for x, one in zip(xs, flow.samples, strict=True)
        )
        if most_waiting
        else "",
        most_waiting,
    )


def _pieces(values: Sequence[float | None], highest: float) -> Iterable[str]:
    step, piece = WIDTH / max(1, len(values)), list[str]()
    for place, value in enumerate([*values, None]):
        if value is not None:
            y = HEIGHT - 2 - value / highest * (HEIGHT - 4)
            piece.append(f"{place * step:.1f},{y:.1f} {(place + 0.8) * step:.1f},{y:.1f}")
        elif piece:
            yield " ".join(piece)
            piece = []


def _title(point: Point) -> str:
    counts = [f"{getattr(point, kind):,} {kind}" for kind in _ENDS if getattr(point, kind)]
    times = [
        f"{word} {clock.in_words(times.p50_s)} (p95 {clock.in_words(times.p95_s or 0)})"
        for word, times in (("waited", point.waited), ("ran", point.ran))
        if times.p50_s is not None
    ]
    return f"{point.start:%Y-%m-%d %H:%M} UTC: {', '.join(counts + times) or 'nothing ran'}"
