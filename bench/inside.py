"""One contestant's producer: does what the runner asks for, in the environment of its library.

It reads a line of JSON for each request and answers with one: `{"do": "enqueue", "n": 100}`.
Nothing here but the standard library, and the contestant's own file.
"""

import asyncio
import importlib
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any

# Between two calls, so that the workers are idle again.
PAUSE_S = 0.005


async def describe(contestant: ModuleType) -> dict[str, Any]:
    """What the runner must know about this contestant."""
    return {
        "versions": {name: version(name) for name in contestant.PACKAGES},
        "python": platform.python_version(),
        "many_at_once": contestant.MANY_AT_ONCE,
        "done": contestant.DONE._asdict(),
        "has_bulk": hasattr(contestant, "enqueue_many"),
    }


async def workers(contestant: ModuleType, n: int) -> list[list[str]]:
    commands: list[list[str]] = contestant.workers(n)
    return commands


async def enqueue(contestant: ModuleType, job: str, n: int) -> float:
    """Enqueue `n` jobs, each by itself; return the seconds it took."""
    began = time.perf_counter()
    for _ in range(n):
        await _done(contestant.enqueue(job))
    return time.perf_counter() - began


async def enqueue_many(contestant: ModuleType, job: str, n: int) -> float:
    """The same in bulk."""
    began = time.perf_counter()
    await _done(contestant.enqueue_many(job, n))
    return time.perf_counter() - began


async def latency(contestant: ModuleType, n: int, limit_s: float) -> list[tuple[float, float]]:
    """Call `n` jobs one after the other, for `limit_s` at most.

    Return for each the seconds to its first line and to its result.
    """
    taken: list[tuple[float, float]] = []
    deadline = time.monotonic() + limit_s
    while len(taken) < n and time.monotonic() < deadline:
        sent = time.monotonic()
        began = await _done(contestant.call("stamp"))
        taken.append((began - sent, time.monotonic() - sent))
        await asyncio.sleep(PAUSE_S)
    return taken


REQUESTS: dict[str, Callable[..., Awaitable[Any]]] = {
    request.__name__: request for request in (describe, workers, enqueue, enqueue_many, latency)
}


async def _done(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _serve(name: str, answers: Any) -> None:
    contestant = importlib.import_module(f"bench.contestants.{name}")
    await _done(getattr(contestant, "connect", lambda: None)())
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        answer = await REQUESTS[request.pop("do")](contestant, **request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # What a library prints must not be taken for an answer.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asyncio.run(_serve(sys.argv[1], channel))
