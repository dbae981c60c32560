"""The contestants, a file each, set up as the library's own documentation recommends.

A contestant's file is imported where its library is installed and nothing of ours is: by the
processes that `bench.inside` runs, and by its own workers.  It has

    PACKAGES             the distributions whose versions are shown
    VARIANTS             optional: name -> its meaning, where there are several kinds of worker
    MANY_AT_ONCE         True if one worker runs several jobs at a time
    DONE                 how to ask Redis how many jobs are done, in one cheap command
    workers(n)           the command lines that start n workers
    connect()            optional: what must happen once before anything is enqueued
    enqueue(job)         put one job on the queue: "noop", "stamp" or "nap"
    enqueue_many(job, n) optional: the library's own way to enqueue in bulk
    call(job)            enqueue it and wait for what it returns

The last four may be coroutines.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple

REDIS_URL = os.environ["REDIS_URL"]
# For libraries that keep results apart.
RESULTS_URL = REDIS_URL.removesuffix("/0") + "/1"
MEASURE = os.environ["BENCH_MEASURE"]
VARIANT = os.environ["BENCH_VARIANT"]
# How many jobs are to be under way at a time where they only wait.
NAPS_AT_ONCE = 10


class Count(NamedTuple):
    """A Redis command whose answer is the number of jobs done, or of those that are left."""

    command: tuple[str, ...]
    is_left: bool = False
    db: int = 0


def command(name: str) -> str:
    """The path of a command that was installed together with this Python."""
    return str(Path(sys.executable).parent / name)
