"""The schedule of the dynos under test: `python -m bench.chaos.schedule`."""

from datetime import datetime

from bench.chaos.jobs import tick
from bench.chaos.ledger import QUEUE
from jiffy import every, run_scheduler

TICK = "tick"
SCHEDULE = [
    every("1s", tick, name=TICK, queue=QUEUE, overlap="allow", missed="all", result_ttl="1d")
]


def job_id_of(slot: datetime) -> str:
    """The id of the job of a second."""
    return f"{TICK}-{slot:%Y%m%dT%H%M%SZ}"


if __name__ == "__main__":
    run_scheduler(SCHEDULE)
