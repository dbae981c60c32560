"""One contestant on an empty Redis: its producer, its workers, and how far they are."""

import json
import re
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from signal import SIGCONT, SIGSTOP
from threading import Event, Timer
from types import TracebackType
from typing import Any

from redis import Redis

from bench import environments, server
from bench.processes import MARK, Crowd
from jiffy.clock import monotonic

POLL_S = 0.004
_ERROR = re.compile(r"\w(Error|Exception|Warning)\b.*:|^Error", re.IGNORECASE)
ANSWER_S = 180
START_S = 60
# Workers are ready when they have used less than this share of a core for that long.
QUIET_SHARE, QUIET_S = 0.15, 0.6


class Fell(Exception):
    """A contestant did not do what was asked; the message says what, in one line."""


@dataclass(frozen=True)
class Entry:
    """A contestant in one of its variants: `rq:fork`."""

    name: str
    variant: str = ""
    only: str = ""  # the measurements that it is good for begin with this

    def __str__(self) -> str:
        return f"{self.name}:{self.variant}" if self.variant else self.name


@dataclass
class Stage:
    """A context in which one contestant is measured once; all it started is gone afterwards.

    `workers_url` is where its workers find Redis, if not where all others do.  `redis` is our own
    client, and `counter` the one that sees its results.
    """

    entry: Entry
    measure: str
    url: str
    workers_url: str = ""
    _started: list[subprocess.Popen[str]] = field(default_factory=list)
    _polls: int = 0

    def __post_init__(self) -> None:
        self.redis = self.counter = Redis.from_url(self.url)
        self.crowd = Crowd(uuid.uuid4().hex)
        self.python = environments.python_for(self.entry.name)
        logs = environments.BUILD / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{str(self.entry).replace(':', '-')}-{self.measure}.log"

    def __enter__(self) -> "Stage":
        self.redis.flushall()
        self.log.write_text("")
        self.producer = self._start(
            [str(self.python), "-m", "bench.inside", self.entry.name],
            self.url, mark="", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            self.about = self.ask("describe")
            # Where its results are; connected now, so that no measurement counts it.
            self.counter = Redis.from_url(
                self.url.removesuffix("0") + str(self.about["done"]["db"])
            )
            self.counter.ping()
        except Fell:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.crowd.stop([process.pid for process in self._started])
        for process in [self.producer, *self._started]:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()
        self.redis.close()
        self.counter.close()

    def ask(self, do: str, **what: Any) -> Any:
        """Have the producer do something (see `bench.inside`); return its answer."""
        assert self.producer.stdin  # a pipe, as the other one
        assert self.producer.stdout
        patience = Timer(ANSWER_S, self.producer.kill)
        patience.start()
        try:
            self.producer.stdin.write(json.dumps({"do": do, **what}) + "\n")
            self.producer.stdin.flush()
            line = self.producer.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            patience.cancel()
        if not line:
            raise Fell(f"{do}: {self._last_words()}")
        return json.loads(line)

    def fill(self, job: str, n: int) -> None:
        """Put `n` jobs on the queue as fast as the library can."""
        self.ask("enqueue_many" if self.about["has_bulk"] else "enqueue", job=job, n=n)

    def start_workers(self, n: int) -> None:
        """Start `n` workers; return when they are up, have run a job each, and are idle."""
        for command in self.ask("workers", n=n):
            url = self.workers_url or self.url
            self._started.append(self._start(command, url, mark=self.crowd.mark))
        self._wait_until_quiet()
        self.ask("enqueue", job="noop", n=n)
        if not self.wait_for(n, START_S):
            raise Fell(f"its workers did nothing in {START_S} s: {self._last_words()}")
        self._wait_until_quiet()

    def freeze(self) -> None:
        """Stop the workers where they stand, so that a full queue can be put before them."""
        self.crowd.signal(SIGSTOP)

    def thaw(self) -> None:
        self.crowd.signal(SIGCONT)

    def wait_for(self, done: int, limit_s: float, put: int | None = None) -> bool:
        """Wait until `done` of all `put` jobs are done; False if they are not after `limit_s`."""
        return self._wait(lambda: self.done(put or done) >= done, limit_s)

    def done(self, put: int) -> int:
        """How many of the `put` jobs are done."""
        how = self.about["done"]
        self._polls += 1
        answer: Any = self.counter.execute_command(*how["command"])
        count = int(answer)
        return put - count if how["is_left"] else count

    def traffic(self) -> server.Traffic:
        """What Redis has done so far, without our own looking."""
        self._polls += 1
        seen = server.traffic(self.redis)
        return seen - server.Traffic(self._polls, self._polls)

    def _wait(self, is_so: Callable[[], bool], limit_s: float) -> bool:
        deadline = monotonic() + limit_s
        while not is_so():
            if monotonic() > deadline or self._has_ended():
                return False
            Event().wait(POLL_S)
        return True

    def _wait_until_quiet(self) -> None:
        deadline = monotonic() + START_S
        used, seen = -1.0, monotonic()
        while monotonic() < deadline:
            Event().wait(QUIET_S)
            before, began = used, seen
            used, seen = self.crowd.cpu_s(), monotonic()
            if self._has_ended():
                raise Fell(f"a worker ended: {self._last_words()}")
            if 0 <= used - before < QUIET_SHARE * (seen - began) and before >= 0:
                return

    def _has_ended(self) -> bool:
        return any(process.poll() is not None for process in self._started)

    def _start(self, command: list[str], url: str, *, mark: str, **options: Any) -> Any:
        environment = {
            "PATH": f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(environments.ROOT),
            "REDIS_URL": url,
            "JOBS_MODULES": "bench.jobs",
            "BENCH_MEASURE": self.measure,
            "BENCH_VARIANT": self.entry.variant,
            MARK: mark,
        }
        with self.log.open("a") as log:
            return subprocess.Popen(
                command, env=environment, stderr=log, text=True, cwd=environments.ROOT,
                start_new_session=True, **({"stdout": log} | options),
            )  # fmt: skip

    def _last_words(self) -> str:
        """The last error in its log, or else the last line."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if _ERROR.search(line)]
        return (errors or lines or ["it said nothing"])[-1].strip(" |+")[:160]


def versions(entry: Entry, url: str) -> dict[str, str]:
    """What is installed for this contestant."""
    with Stage(entry, "describe", url) as stage:
        found: dict[str, str] = stage.about["versions"]
        return found | {"python": stage.about["python"]}
