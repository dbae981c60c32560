"""Charts and graphs as shapes for SVG: plain functions of what was read."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from jiffy import clock
from jiffy.control.entries import Run
from jiffy.control.read import Family, Relative
from jiffy.control.values import clip
from jiffy.dashboard.words import duration
from jiffy.history import FLOW_S, Flow, Point

WIDTH, HEIGHT = 720, 120
_ENDS = ("done", "retried", "interrupted", "failed")  # from the bottom up
_RUN_STEP, _RUN_WIDTH, _RUN_HEIGHT = 12, 8, 56
_LEAST_RUN = 4  # the height of the bar of a job that took no time
_NODE_WIDTH, _NODE_HEIGHT, _GAP_X, _GAP_Y = 180, 44, 40, 10  # of jobs in a graph, in pixels


class Bar(NamedTuple):
    """A rectangle; `kind` colours it, `title` says in words what it shows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str = ""


def columns(points: Sequence[Point]) -> tuple[list[Bar], int]:
    """How many attempts ended how: bars for each point, and one over all of them with its words;
    and how many the highest stands for.
    """
    highest = max((point.attempts for point in points), default=0)
    width = WIDTH / max(1, len(points))
    bars = []
    for place, point in enumerate(points):
        x, y = place * width, float(HEIGHT)
        for kind in _ENDS:
            if count := getattr(point, kind):
                # The least failure is seen, too.
                height = max(count / highest * HEIGHT, 1.5)
                y -= height
                bars.append(Bar(x, max(0.0, y), width * 0.8, height, kind))
        said = [f"{getattr(point, kind):,} {kind}" for kind in _ENDS if getattr(point, kind)]
        for word, times in (("waited", point.waited), ("ran", point.ran)):
            if times.p50_s is not None:
                p50, p95 = clock.in_words(times.p50_s), clock.in_words(times.p95_s or 0)
                said.append(f"{word} {p50} (p95 {p95})")
        title = f"{point.start:%Y-%m-%d %H:%M} UTC: {', '.join(said) or 'nothing ran'}"
        bars.append(Bar(x, 0, width, HEIGHT, "over", title))
    return bars, highest


def lines(
    points: Sequence[Point], kinds: dict[str, Callable[[Point], float | None]]
) -> tuple[dict[str, list[str]], float]:
    """A line for each kind, in pieces where nothing was measured between them, on one scale; and
    how many seconds its top stands for.
    """
    values = {kind: [of(point) for point in points] for kind, of in kinds.items()}
    highest = max((one for row in values.values() for one in row if one is not None), default=0.0)
    step, pieces = WIDTH / max(1, len(points)), dict[str, list[str]]()
    for kind, row in values.items():
        piece, pieces[kind] = list[str](), []
        for place, value in enumerate([*row, None]):
            if value is not None:
                y = HEIGHT - 2 - value / (highest or 1.0) * (HEIGHT - 4)
                piece.append(f"{place * step:.1f},{y:.1f} {(place + 0.8) * step:.1f},{y:.1f}")
            elif piece:
                pieces[kind].append(" ".join(piece))
                piece = []
    return pieces, highest


class Mark(NamedTuple):
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
    most_ended = max(one.ended for one in flow.samples) or 1
    most_waiting = max(one.waiting for one in flow.samples)
    bars, line = list[tuple[float, float]](), list[str]()
    for one in flow.samples:
        x = WIDTH * (1 - (end_s - one.at_s) / FLOW_S)
        if one.ended:
            bars.append((x, max(one.ended / most_ended * HEIGHT, 6)))
        if most_waiting:
            line.append(f"{x:.0f},{HEIGHT - 4 - one.waiting / most_waiting * (HEIGHT - 8):.0f}")
    return Spark(bars, " ".join(line), most_waiting)


def runs(found: Sequence[Run]) -> list[Bar]:
    """A bar for each run, given newest first, as high as its job took long; oldest on the left."""
    longest_s = max((run.duration_s or 0 for run in found), default=0) or 1
    bars = []
    for place, run in enumerate(reversed(found)):
        height = _LEAST_RUN + (run.duration_s or 0) / longest_s * (_RUN_HEIGHT - _LEAST_RUN)
        took = f", took {duration(run.duration_s)}" if run.duration_s is not None else ""
        title = f"{run.slot:%Y-%m-%d %H:%M:%S} UTC: {run.outcome}{took}"
        x, y = place * _RUN_STEP, _RUN_HEIGHT - height
        bars.append(Bar(x, y, _RUN_WIDTH, height, run.outcome, title))
    return bars


class Node(NamedTuple):
    """A job in a graph, and where its upper left corner is."""

    job: Relative
    x: int
    y: int

    @property
    def name(self) -> str:
        """The call without its module, or the id; the page cuts what is too wide."""
        path, bracket, rest = self.job.title.partition("(")
        short = path.rpartition(".")[2] if bracket else path
        return clip(f"{short}{bracket}{rest}" or self.job.id, 60)


class Graph(NamedTuple):
    """Jobs and the lines between them, as paths of SVG; and how large it is."""

    nodes: Sequence[Node]
    lines: Sequence[str]
    width: int
    height: int
    left_out: int

    @property
    def words(self) -> str:
        """What it shows: 3 jobs: 1 finished, 2 deferred."""
        states = Counter(node.job.state for node in self.nodes)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"{len(self.nodes)} jobs: {counts}"


def graph(family: Family) -> Graph:
    """A workflow: each job stands to the right of those that it waits for."""
    jobs = {job.id: job for job in family.jobs}
    pairs = {(other, job.id) for job in family.jobs for other in job.before if other in jobs}
    pairs |= {(job.id, other) for job in family.jobs for other in job.after if other in jobs}
    before_each: dict[str, list[str]] = {job_id: [] for job_id in jobs}
    for before, after in pairs:
        before_each[after].append(before)
    column, rows, nodes = dict[str, int](), Counter[int](), dict[str, Node]()
    for job_id in jobs:
        at = _column(job_id, before_each, column)
        x, y = at * (_NODE_WIDTH + _GAP_X), rows[at] * (_NODE_HEIGHT + _GAP_Y)
        nodes[job_id] = Node(jobs[job_id], x, y)
        rows[at] += 1
    paths = []
    for before, after in sorted(pairs):
        x, y = nodes[before].x + _NODE_WIDTH, nodes[before].y + _NODE_HEIGHT // 2
        to_x, to_y = nodes[after].x, nodes[after].y + _NODE_HEIGHT // 2
        paths.append(f"M{x} {y}C{x + _GAP_X} {y} {to_x - _GAP_X} {to_y} {to_x} {to_y}")
    width = max(node.x for node in nodes.values()) + _NODE_WIDTH
    height = max(node.y for node in nodes.values()) + _NODE_HEIGHT
    ordered = sorted(nodes.values(), key=lambda node: (node.x, node.y))
    return Graph(ordered, paths, width, height, family.left_out)


def _column(job_id: str, before: Mapping[str, Sequence[str]], found: dict[str, int]) -> int:
    """How many jobs, at most, run one after the other before it; each is looked at once."""
    if job_id not in found:
        found[job_id] = 0  # if odd data goes round in circles
        found[job_id] = max((_column(one, before, found) + 1 for one in before[job_id]), default=0)
    return found[job_id]
