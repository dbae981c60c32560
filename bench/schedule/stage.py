"""Where a scenario is played: a Redis, schedulers that a platform keeps running, and a watcher."""

import math
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import IO

from bench import environments
from bench.chaos.servers import Server
from bench.processes import MARK, Crowd
from bench.schedule.contestants import Contestant
from bench.schedule.ledger import Count, Watcher, count

START_S = 60
# How long a platform takes to start a process again, and how long it leaves one that is to stop.
RESTART_S, GRACE_S = 1.0, 5.0
# How long after the last second its tick may come.
LAST_S = 5.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, for how long; a tick is due each second all the while."""

    faults: Callable[["Stage"], None]
    schedulers: int = 1
    seconds: int = 30
    # The Redis, with its data in a folder; and another way to the one at an address.
    server: Callable[[Path], Server] = Server
    wire: Callable[[str], AbstractContextManager[str]] = nullcontext


class Process:
    """A scheduler that is started again some time after it ends."""

    def __init__(self, command: list[str], environment: dict[str, str], log: IO[str]) -> None:
        self.crowd = Crowd(uuid.uuid4().hex)
        self._command, self._log = command, log
        self._environment = environment | {MARK: self.crowd.mark}
        self._ended_s: float | None = None
        self._running = self._begin()

    def revive(self) -> None:
        if self._running.poll() is None:
            return
        if self._ended_s is None:
            self._ended_s = time.monotonic()
        if time.monotonic() > self._ended_s + RESTART_S:
            self._running, self._ended_s = self._begin(), None

    def signal(self, number: int) -> None:
        self.crowd.signal(number)
        if number == SIGKILL:
            self._running.wait()

    def _begin(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command, env=self._environment, stdout=self._log, stderr=self._log, text=True,
            cwd=environments.ROOT, start_new_session=True,
        )  # fmt: skip


class Stage:
    """What a scenario may use."""

    def __init__(
        self, contestant: Contestant, server: Server, environment: dict[str, str], home: Path
    ) -> None:
        self.server = server
        # Until when (of Unix) ticks are counted; known once the first has come.
        self.until = math.inf
        self._contestant, self._environment, self._home = contestant, environment, home
        self._log = (home / "schedulers.log").open("w")
        self._processes: list[Process] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        self._platform = threading.Thread(target=self._watch)
        self._platform.start()

    def start(self, schedulers: int) -> None:
        with self._lock:
            self._processes = [self._process(number) for number in range(schedulers)]

    def crowds(self) -> list[Crowd]:
        return [process.crowd for process in self._processes]

    def every(self, pause_s: float) -> Iterator[None]:
        """A turn each `pause_s` until the scenario's time is over."""
        while time.time() + pause_s < self.until:
            time.sleep(pause_s)
            yield

    def kill_all(self) -> None:
        """kill -9 of every scheduler; the platform starts them again."""
        with self._lock:
            for process in self._processes:
                process.signal(SIGKILL)

    def deploy(self) -> None:
        """New schedulers start while the old ones have SIGTERM, and SIGKILL after the grace."""
        with self._lock:
            old = self._processes
            self._processes = [self._process(number) for number in range(len(old))]
        for process in old:
            process.signal(SIGTERM)
        self._over.wait(GRACE_S)
        for process in old:
            process.signal(SIGKILL)

    def close(self) -> None:
        self._over.set()
        self._platform.join()
        self.kill_all()
        self._log.close()

    def _process(self, number: int) -> Process:
        folder = self._home / f"scheduler-{number}"
        folder.mkdir(exist_ok=True)
        command = self._contestant.command(self._contestant.python.parent, folder)
        return Process(command, self._environment, self._log)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            with self._lock:
                for process in self._processes:
                    process.revive()


@contextmanager
def set_up(
    contestant: Contestant, scenario: Scenario, home: Path, schedule: str
) -> Iterator[Stage]:
    """A stage with its entries; no scheduler is started yet."""
    server = scenario.server(home / "redis")
    try:
        with scenario.wire(server.url) as url:
            environment = _environment(contestant, url, schedule)
            contestant.prepare(environment)
            stage = Stage(contestant, server, environment, home)
            try:
                yield stage
            finally:
                stage.close()
    finally:
        server.kill()


def play(contestant: Contestant, scenario: Scenario, home: Path) -> Count:
    """Play one scenario; say what became of its ticks."""
    with set_up(contestant, scenario, home, "1 second") as stage:
        watcher = Watcher(stage.server.client(), contestant)
        try:
            stage.start(scenario.schedulers)
            stage.until = watcher.wait_for_first(START_S).at + scenario.seconds
            scenario.faults(stage)
            time.sleep(max(0.0, stage.until + LAST_S - time.time()))
        finally:
            arrivals = watcher.close()
    return count(arrivals, scenario.seconds)


def _environment(contestant: Contestant, url: str, schedule: str) -> dict[str, str]:
    return {
        "PATH": f"{contestant.python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(environments.ROOT),
        "REDIS_URL": url,
        "RQ_REDIS_URL": url,
        "JOBS_MODULES": "bench.jobs",
        "BENCH_SCHEDULE": schedule,
    }
