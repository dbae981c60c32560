"""The jobs that every contestant runs, as plain functions and as coroutines.

Each returns something, because some libraries do not store a result of None.
"""

import asyncio
import time

NAP_S = 0.1


def noop() -> int:
    """Cost nothing: what is measured is the queue."""
    return 1


def stamp() -> float:
    """Say when the job's first line ran, on the clock that all processes of a machine share."""
    return time.monotonic()


def nap() -> int:
    """Wait as a job does that calls another service."""
    time.sleep(NAP_S)
    return 1


async def async_noop() -> int:
    return 1


async def async_stamp() -> float:
    return time.monotonic()


async def async_nap() -> int:
    await asyncio.sleep(NAP_S)
    return 1
