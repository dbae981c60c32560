"""A wire to Redis that is as long as one likes: `with longer(url, 0.001) as url: …`.

A process of its own, so that it takes no time from those who are measured but for its share of the
machine.  Bytes are held back in both directions for half of the time, however many follow them.
"""

import asyncio
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from urllib.parse import urlsplit

from redis import Redis

from bench.server import free_port
from jiffy.clock import monotonic

PINGS = 200


@contextmanager
def longer(url: str, by_s: float) -> Iterator[str]:
    """Yield an address that leads to `url` with `by_s` seconds more for each round trip."""
    parts = urlsplit(url)
    port = free_port()
    command = [sys.executable, "-m", "bench.proxy", str(port), str(parts.port), str(by_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout  # it is a pipe
    try:
        process.stdout.readline()  # it listens
        yield parts._replace(netloc=f"{parts.hostname}:{port}").geturl()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def round_trip_s(url: str) -> float:
    """How long Redis is away in truth: the median of some PINGs."""
    with Redis.from_url(url) as redis:
        taken = [_ping(redis) for _ in range(PINGS)]
    return median(taken)


class Side(asyncio.Protocol):
    """One end of a connection; what it hears is said at the other end a little later."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.other: asyncio.Transport | None = None
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay_s, self._say, data)

    def connection_lost(self, _: Exception | None) -> None:
        if self.other:
            self.other.close()

    def joined(self, other: asyncio.Transport) -> None:
        self.other = other
        for data in self.waiting:
            other.write(data)

    def _say(self, data: bytes) -> None:
        if self.other:
            self.other.write(data)
        else:
            self.waiting.append(data)


class Entrance(Side):
    """The end that a client comes to; it opens the other one."""

    def __init__(self, delay_s: float, target: int) -> None:
        super().__init__(delay_s)
        self.target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.joining = asyncio.get_running_loop().create_task(self._join())

    async def _join(self) -> None:
        loop = asyncio.get_running_loop()
        far, exit_ = await loop.create_connection(
            lambda: Side(self.delay_s), "127.0.0.1", self.target
        )
        exit_.joined(self.transport)
        self.joined(far)


def _ping(redis: Redis) -> float:
    began = monotonic()
    redis.ping()
    return monotonic() - began


async def _serve(port: int, target: int, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Entrance(delay_s, target), "127.0.0.1", port)
    print("listening", flush=True)
    await listening.serve_forever()


def _loop() -> asyncio.AbstractEventLoop:
    # epoll rounds up to whole milliseconds; select does not.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    port, target, by_s = sys.argv[1:]
    _loop().run_until_complete(_serve(int(port), int(target), float(by_s) / 2))
