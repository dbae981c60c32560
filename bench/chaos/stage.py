"""Where a scenario is played: a Redis, a fleet of workers, and a producer of jobs."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from redis.exceptions import RedisError

from bench.chaos import ledger, mix
from bench.chaos.fleet import COMMANDS, DYNOS, ROOT, Fleet
from bench.chaos.producer import JOBS, Producer
from bench.chaos.schedule import TICK, job_id_of
from bench.chaos.servers import Server
from jiffy import keys

PER_SECOND = 20
BRIEF_S = 0.02
BACKLOG = 200
JOB_MEMORY_MB = 300
LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Long:
    """One job in so many takes long enough to be hit; the others are the crowd.

    Together they must leave the four children time to spare, or a backlog would look like a fault.
    """

    one_in: int = 8
    takes_s: float = 0.3


@dataclass(frozen=True)
class Plan:
    """What the user asked for."""

    worker: str
    seconds: float
    grace_s: float
    freeze_s: float
    deadline_s: float
    seed: int
    home: Path


@dataclass(frozen=True)
class Wires:
    """The servers of a scenario, and the addresses at which workers and the producer find them."""

    server: Server
    workers_url: str
    producers_url: str
    # Begins or ends the harm, where connections lead through a cutter.
    cut: Callable[[bool], None] = lambda _: None


MakeWires = Callable[[Path, random.Random], AbstractContextManager[Wires]]


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, on which wires, and with which workers of ours."""

    faults: Callable[["Stage"], None]
    wires: MakeWires
    processes_die: bool = True  # or are taken for dead: their jobs begin again
    redis_forgets: bool = False  # what it has confirmed: nothing is certain
    ours: str = "jiffy"
    dynos: int = DYNOS


@dataclass
class Stage:
    """What a scenario may use."""

    plan: Plan
    rng: random.Random
    wires: Wires
    fleet: Fleet
    producer: Producer
    # The id of a bad job -> what is bad about it, for the report.
    poison: dict[str, str] = field(default_factory=dict)
    # What else is wrong: about what, and what it is.
    wrong: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def producing(self, long: Long = Long()) -> Iterator[None]:
        """Enqueue jobs, so many a second, as long as the block runs."""
        over = threading.Event()
        thread = threading.Thread(target=self._produce, args=(over, long))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def harmed(self) -> Iterator[None]:
        """Let the wires do harm as long as the block runs."""
        self.wires.cut(True)
        yield
        self.wires.cut(False)

    def every(self, pause_s: float) -> Iterator[None]:
        """A turn each `pause_s` for as long as the plan says."""
        deadline = time.monotonic() + self.plan.seconds
        while time.monotonic() < deadline:
            time.sleep(pause_s)
            yield

    def enqueue_backlog(self) -> None:
        """Jobs that wait already when the fault comes."""
        for number in range(BACKLOG):
            self.producer.enqueue("work", BRIEF_S, job_id=f"early-{number}")

    def enqueue_good(self, number: int, long: Long = Long()) -> None:
        """One in so many takes longer; of the others, ours are of all kinds."""
        if number % long.one_in and self.producer.is_ours:
            kind = self.rng.choice([*mix.KINDS])
            with suppress(RedisError, OSError):  # it is in doubt what is there
                self.producer.expect(*mix.KINDS[kind](f"{kind}-{number}"))
            return
        takes_s = BRIEF_S if number % long.one_in else long.takes_s
        self.producer.enqueue("work", takes_s, job_id=f"job-{number}")

    def _produce(self, over: threading.Event, long: Long) -> None:
        number = 0
        while not over.wait(1 / PER_SECOND):
            self.enqueue_good(number, long)
            number += 1


def play(name: str, scenario: Scenario, plan: Plan) -> ledger.Row:
    """Play one scenario with one kind of worker; say what became of the jobs."""
    home = plan.home / f"{name}-{plan.worker}"
    rng = random.Random(f"{plan.seed} {name}")
    with scenario.wires(home, rng) as wires, (home / "workers.log").open("w") as log:
        stage = Stage(
            plan, rng, wires, _fleet(plan, scenario, home, wires.workers_url, log),
            Producer(plan.worker, wires.producers_url),
        )  # fmt: skip
        try:
            has_scheduler = plan.worker == scenario.ours == "jiffy"
            wires.server.wait_until(lambda redis: redis.scard(keys.WORKERS) >= scenario.dynos)
            wires.server.wait_until(lambda redis: not has_scheduler or redis.exists(keys.LEADER))
            scenario.faults(stage)
            _expect_ticks(stage, home)
            settled_s = _wait_until_settled(stage)
            _wait_until_up(stage)
        finally:
            stage.fleet.close()
        if has_scheduler:
            stage.wrong |= stage.fleet.endings()
        return _row(name, stage, scenario, home, settled_s)


def _fleet(plan: Plan, scenario: Scenario, home: Path, url: str, log: IO[str]) -> Fleet:
    environment = os.environ | {
        "CHAOS_LEDGER": str(home / "ledger.txt"),
        "GRACE_S": str(plan.grace_s),
        "JOBS_MODULES": JOBS,
        "JOB_MEMORY_MB": str(JOB_MEMORY_MB),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{home}",
        "REDIS_URL": url,
    }
    command = COMMANDS[scenario.ours if plan.worker == "jiffy" else plan.worker]
    where = _where(home, url).split()
    return Fleet([command(dyno, where) for dyno in range(scenario.dynos)], environment, log)


def _where(home: Path, url: str) -> str:
    """The options that lead RQ's command to Redis: it knows Sentinel by a Python module only."""
    if not url.startswith("redis+sentinel://"):
        return f"-u {url}"
    host_port, name, _ = url.removeprefix("redis+sentinel://").split("/")
    host, port = host_port.split(":")
    config = home / "rq_sentinel.py"
    config.write_text(
        f"SENTINEL = {{'INSTANCES': [({host!r}, {port})], 'MASTER_NAME': {name!r}, 'DB': 0}}\n"
    )
    return f"-c {config.stem}"


def _expect_ticks(stage: Stage, home: Path) -> None:
    """A job for each second since the first, up to now, where a scheduler is at work."""
    slot = datetime.now(UTC).replace(microsecond=0)
    first = min((name for name in ledger.read(home / "ledger.txt") if name.startswith(TICK)),
                default="")  # fmt: skip
    while first and job_id_of(slot) >= first:
        stage.producer.expect(ledger.Expected(job_id_of(slot)))
        slot -= timedelta(seconds=1)


def _wait_until_settled(stage: Stage) -> float | None:
    """Seconds until every job's outcome was written; None if that is not so at the deadline."""
    began = time.monotonic()
    books = ledger.Books(stage.wires.server.client())
    while books.unsettled(stage.producer.expected):
        if time.monotonic() - began > stage.plan.deadline_s:
            return None
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


def _wait_until_up(stage: Stage) -> None:
    deadline = time.monotonic() + stage.plan.deadline_s
    while not stage.fleet.is_up():
        if time.monotonic() > deadline:
            stage.wrong["a dyno"] = "is not there again"
            return
        time.sleep(LOOK_EVERY_S)


def _row(
    name: str, stage: Stage, scenario: Scenario, home: Path, settled_s: float | None
) -> ledger.Row:
    runs = ledger.read(home / "ledger.txt")
    books = ledger.Books(stage.wires.server.client())
    expected = stage.producer.expected
    fates = books.fates(expected, runs)
    dies = {"processes_die": scenario.processes_die}
    wrong = ledger.wrong_counts(expected.values(), runs, **dies) | stage.wrong
    wrong |= books.wrong_retries(expected.values(), **dies)
    counts = stage.producer.is_ours and not scenario.redis_forgets
    return ledger.Row(
        scenario=name,
        worker=stage.plan.worker,
        enqueued=len(fates),
        fates=Counter(fates.values()),
        beside_itself=sum(run.beside_itself() for run in runs.values()),
        wrong=wrong if counts else {},
        settled_s=settled_s,
        details=_details(stage, fates, books),
    )


def _details(stage: Stage, fates: dict[str, ledger.Fate], books: ledger.Books) -> dict[str, str]:
    """What is worth a word: the bad jobs, and the good ones that were not simply done."""
    return {
        f"{job_id} {stage.poison.get(job_id, '')}".strip(): f"{fate.value}: {books.reason(job_id)}"
        for job_id, fate in fates.items()
        if job_id in stage.poison or fate not in (ledger.Fate.ONCE, ledger.Fate.MORE)
    }
