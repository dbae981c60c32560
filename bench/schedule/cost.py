"""What a scheduler costs: 10,000 entries that are due at the same second; and nothing to do."""

import math
import time
from pathlib import Path
from typing import Any

from bench.schedule.contestants import Contestant
from bench.schedule.scenarios import SCENARIOS
from bench.schedule.stage import set_up
from bench.server import traffic

ENTRIES = 10_000
# A start takes seconds, and is to be over before the minute is; then the burst may take its time.
START_S, BURST_TIMEOUT_S = 35, 60
# A scheduler that has begun is left alone for a moment before it is measured.
SETTLE_S, MEASURE_S = 8, 30
LOOK_EVERY_S = 0.02

HEADINGS = [
    "scheduler", "10,000 due at once: the last comes after", "the first after",
    "idle: commands a second", "idle: share of a core",
]  # fmt: skip


def measure(contestant: Contestant, home: Path) -> list[str]:
    """The cells of one line, but for its name."""
    first_s, last_s = burst(contestant, home / "burst")
    commands, share = idle(contestant, home / "idle")
    last = f"{last_s:.2f} s" if math.isfinite(last_s) else f"over {BURST_TIMEOUT_S} s"
    return [last, f"{first_s:.2f} s", f"{commands:.1f}", f"{share:.2%}"]


def burst(contestant: Contestant, home: Path) -> tuple[float, float]:
    """How late the first and the last of many jobs are that are due with the minute."""
    home.mkdir(parents=True)
    _wait_for_a_minute()
    minute = f"{ENTRIES} minute"
    with (
        set_up(contestant, SCENARIOS["steady"], home, minute) as stage,
        stage.server.client() as redis,
    ):
        redis.config_set("appendonly", "no")  # a disk is nobody's merit here
        stage.start(1)
        first = _when(redis, contestant, 1, 2 * 60)
        last = _when(redis, contestant, ENTRIES, BURST_TIMEOUT_S)
    # They were due with a minute: the last one before the first of them came.
    due = first - first % 60
    return first - due, last - due


def idle(contestant: Contestant, home: Path) -> tuple[float, float]:
    """Redis commands a second, and the share of a core, of one scheduler with nothing to do."""
    home.mkdir(parents=True)
    with set_up(contestant, SCENARIOS["steady"], home, "1 day") as stage:
        stage.start(1)
        time.sleep(SETTLE_S)
        [crowd] = stage.crowds()
        with stage.server.client() as redis:
            before, used_s = traffic(redis), crowd.cpu_s()
            time.sleep(MEASURE_S)
            after, used_s = traffic(redis), crowd.cpu_s() - used_s
    # Less one: our own question.
    return (after.commands - before.commands - 1) / MEASURE_S, used_s / MEASURE_S


def _when(redis: Any, contestant: Contestant, jobs: int, timeout_s: float) -> float:
    """The time (of Unix) at which so many jobs were on the queue; infinite if that is not soon."""
    deadline = time.monotonic() + timeout_s
    while redis.llen(contestant.queue) < jobs:
        if time.monotonic() > deadline:
            return math.inf
        time.sleep(LOOK_EVERY_S)
    return time.time()


def _wait_for_a_minute() -> None:
    """Return when enough of a minute is left for a start."""
    left_s = 60 - time.time() % 60
    if left_s < START_S:
        time.sleep(left_s)
