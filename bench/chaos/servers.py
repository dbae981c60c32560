"""The Redis servers of a scenario: they can be killed, frozen, and started again on their data."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from bench.server import free_port
from jiffy.dev import redis_server

START_TIMEOUT_S = 60
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


class Server:
    """A Redis on a port of loopback that loses nothing it has confirmed."""

    def __init__(self, home: Path, *options: str) -> None:
        home.mkdir(parents=True)
        self._home = home
        self.port = free_port()
        self._options = ("--dir", str(home), *DURABLE, *options)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        return Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0), protocol=2)

    def start(self) -> None:
        command = [str(redis_server.program()), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._run([*command, *self._options])
        self.wait_until(lambda client: bool(client.ping()))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def freeze(self, for_s: float) -> None:
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(for_s)
        self._process.send_signal(signal.SIGCONT)

    def wait_until(self, is_so: Callable[[Redis], object]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while not _quietly(is_so, client):
                assert time.monotonic() < deadline, f"Redis in {self._home} is not ready"
                time.sleep(0.02)

    def _run(self, command: list[str]) -> None:
        log = (self._home / "redis.log").open("a")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)


class Sentinel(Server):
    """The server that watches a master and has its replica take over."""

    NAME = "main"

    def __init__(self, home: Path, master: Server) -> None:
        self._master = master
        super().__init__(home)

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.NAME}/0"

    def start(self) -> None:
        config = self._home / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._home}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {self._master.port} 1\n"
            f"sentinel down-after-milliseconds {self.NAME} 1000\n"
            f"sentinel failover-timeout {self.NAME} 5000\n"
        )
        self._run([str(redis_server.program()), str(config), "--sentinel"])
        self.wait_until(self._knows_the_replica)

    def _knows_the_replica(self, client: Redis) -> bool:
        return bool(client.sentinel_slaves(self.NAME))


def _quietly(is_so: Callable[[Redis], object], client: Redis) -> object:
    try:
        return is_so(client)
    except (RedisError, OSError):
        return False
