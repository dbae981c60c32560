"""Run jobs: `python worker.py -n 4 high default low`."""

import sys
from collections.abc import Callable

from redis import Redis

from jiffy.worker.command import worker_command


def scheduler(redis: Redis) -> Callable[[], int]:
    """What `--with-scheduler` adds; only then the table is loaded."""
    from jiffy.scheduler import companion
    from scheduler import SCHEDULE

    return companion(SCHEDULE, redis)


if __name__ == "__main__":
    sys.exit(worker_command(scheduler=scheduler))
