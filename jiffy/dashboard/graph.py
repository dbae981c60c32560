"""A workflow as a graph: where each job stands, from left to right as they run."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jiffy.control.read import Family, Relative, clip

WIDTH, HEIGHT, GAP_X, GAP_Y = 180, 44, 40, 10  # of a job and between two, in pixels


class Node(NamedTuple):
    """A job, and where its upper left corner is."""

    job: Relative
    x: int
    y: int

    @property
    def name(self) -> str:
        """Short: the call without its module, or the id."""
        path, bracket, rest = self.job.title.partition("(")
        short = path.rpartition(".")[2] if bracket else path
        return clip(f"{short}{bracket}{rest}" or self.job.id, 22)


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
    """Each job stands to the right of those that it waits for."""
    jobs = {job.id: job for job in family.jobs}
    pairs = {(other, job.id) for job in family.jobs for other in job.before if other in jobs}
    pairs |= {(job.id, other) for job in family.jobs for other in job.after if other in jobs}
    column = dict.fromkeys(jobs, 0)
    for _ in jobs:  # as often as the longest chain needs; odd data may go round in circles
        for before, after in pairs:
            column[after] = min(max(column[after], column[before] + 1), len(jobs))
    rows, nodes = Counter[int](), dict[str, Node]()
    for job in family.jobs:
        x, y = column[job.id] * (WIDTH + GAP_X), rows[column[job.id]] * (HEIGHT + GAP_Y)
        nodes[job.id] = Node(job, x, y)
        rows[column[job.id]] += 1
    lines = [_line(nodes[before], nodes[after]) for before, after in sorted(pairs)]
    width = max(node.x for node in nodes.values()) + WIDTH
    height = max(node.y for node in nodes.values()) + HEIGHT
    ordered = sorted(nodes.values(), key=lambda node: (node.x, node.y))
    return Graph(ordered, lines, width, height, family.left_out)


def _line(before: Node, after: Node) -> str:
    x, y = before.x + WIDTH, before.y + HEIGHT // 2
    to_x, to_y = after.x, after.y + HEIGHT // 2
    return f"M{x} {y}C{x + GAP_X} {y} {to_x - GAP_X} {to_y} {to_x} {to_y}"
