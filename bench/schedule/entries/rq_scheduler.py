"""rq-scheduler: what its README calls periodic jobs, with an id, so that a second run adds none.

This module puts the entries into Redis, once; the command `rqscheduler` does the rest.
"""

from datetime import UTC, datetime, timedelta

from redis import Redis
from rq_scheduler import Scheduler

from bench.jobs import noop
from bench.schedule.entries import NUMBERS, PERIOD_S, REDIS_URL


def first_time() -> datetime:
    """The next moment of the grid, as rq-scheduler wants it: in UTC, without a zone."""
    now = datetime.now(UTC).replace(tzinfo=None)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(seconds=((now - midnight).seconds // PERIOD_S + 1) * PERIOD_S)


def put() -> None:
    scheduler, first = Scheduler(connection=Redis.from_url(REDIS_URL)), first_time()
    for number in NUMBERS:
        scheduler.schedule(first, noop, interval=PERIOD_S, id=f"noop-{number}")


if __name__ == "__main__":
    put()
