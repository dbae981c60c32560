"""The picture of an entry's last ticks: a bar for each, as tall as its job took long."""

from collections.abc import Sequence
from typing import NamedTuple

from jiffy.dashboard import words
from jiffy.ticks import Tick

MOST = 60
HEIGHT, STEP, WIDTH = 56, 12, 8
_LEAST = 4  # so tall is a bar of a job that took no time


class Bar(NamedTuple):
    """A rectangle from the ground up; `outcome` colours it, `title` says it in words."""

    x: int
    y: float
    height: float
    outcome: str
    title: str


def of(ticks: Sequence[Tick]) -> list[Bar]:
    """The bars of the last ticks, given newest first; the oldest stands on the left."""
    shown = list(reversed(ticks[:MOST]))
    longest_s = max((tick.duration_s or 0 for tick in shown), default=0)
    return [_bar(place, tick, longest_s) for place, tick in enumerate(shown)]


def _bar(place: int, tick: Tick, longest_s: float) -> Bar:
    share = (tick.duration_s or 0) / longest_s if longest_s else 0
    height = round(_LEAST + share * (HEIGHT - _LEAST), 1)
    took = f", took {words.duration(tick.duration_s)}" if tick.duration_s is not None else ""
    title = f"{tick.slot:%Y-%m-%d %H:%M:%S} UTC: {tick.outcome}{took}"
    return Bar(place * STEP, round(HEIGHT - height, 1), height, tick.outcome, title)
