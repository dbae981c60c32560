"""What goes wrong: the table at the end, and above it how.

Each scenario's function brings its faults, and returns when the last one is over."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.chaos import poison
from bench.chaos.cutter import Cutter
from bench.chaos.fleet import NAMES
from bench.chaos.servers import Sentinel, Server
from bench.chaos.stage import Long, MakeWires, Scenario, Stage, Wires

HALT_EVERY_S = 0.05
HALTED_S = (0.01, 0.3)
LATE_ONE_IN = 15
# Shorter than a lease, and longer.
REPLACED_S = (0.5, 16)
# Of two with one name the older has ended with its next heartbeat.
BOTH_S = 8
# Long enough for a Python program to start and to begin work.
KILL_ROOT_EVERY_S = 1.5
KILL_ALL_EVERY_S = 4
REDIS_AWAY_S = 1
# Our scripts are 35 kB, and a process that starts has to get each of them through.
MEAN_BYTES_UNTIL_CUT = 40_000
FULL_FOR_S = 8
DEPLOYS = 3


Faults = Callable[[Stage], None]


def often(pause_s: float, *acts: Callable[[Stage], object]) -> Faults:
    """One of `acts`, at random, each `pause_s` while jobs are enqueued and the wires do harm."""

    def faults(stage: Stage) -> None:
        with stage.producing(), stage.harmed():
            for _ in stage.every(pause_s):
                stage.rng.choice(acts)(stage)

    return faults


def nothing(_: Stage) -> None:
    """The wires do it."""


def kill_a_child(stage: Stage) -> None:
    stage.fleet.kill_a_child(stage.rng)


def kill_a_root(stage: Stage) -> None:
    stage.fleet.kill_a_root(stage.rng)


def kill_all(stage: Stage) -> None:
    stage.fleet.kill_all()


def reload(stage: Stage) -> None:
    stage.fleet.reload(stage.rng)


def halt(stage: Stage) -> None:
    stage.fleet.halt(stage.rng, stage.rng.uniform(*HALTED_S), [stage.wires.server.pid])


def kill_redis(stage: Stage) -> None:
    stage.wires.server.kill()
    time.sleep(REDIS_AWAY_S)
    stage.wires.server.start()


def names_come_back(stage: Stage) -> None:
    """Workers whose names stay are killed, ended and replaced, each by itself."""

    def one(dyno: int) -> None:
        rng = random.Random(f"{stage.plan.seed} {dyno}")
        for _ in stage.every(2):
            time.sleep(rng.uniform(0, 4))
            number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
            if number != signal.SIGSTOP:
                stage.fleet.end(dyno, number)
            elif stage.fleet.replace(dyno, rng, rng.uniform(*REPLACED_S), BOTH_S):
                stage.wrong[f"dyno {dyno}"] = "two workers have its name"

    threads = [threading.Thread(target=one, args=[dyno]) for dyno in range(NAMES)]
    with stage.producing(), stage.harmed():
        for thread in threads:
            thread.start()
        for _ in stage.every(HALT_EVERY_S):
            halt(stage)
        for thread in threads:
            thread.join()


def deploys(stage: Stage) -> None:
    """SIGTERM to every process, the new ones starting meanwhile; SIGKILL after the grace.

    Some jobs take longer than the grace.
    """
    longer_than_grace = Long(one_in=60, takes_s=stage.plan.grace_s + 1)
    with stage.producing(longer_than_grace):
        for _ in range(DEPLOYS):
            time.sleep(stage.plan.grace_s + 1)
            stage.fleet.deploy(stage.plan.grace_s + 2)


def a_dyno_is_frozen(stage: Stage) -> None:
    """All processes of one dyno halt for a while, and then go on as if nothing were."""
    with stage.producing():
        time.sleep(2)
        stage.fleet.freeze(stage.plan.freeze_s)


def redis_is_frozen(stage: Stage) -> None:
    """Redis answers nothing for a while: neither an error nor an end of the connection."""
    with stage.producing():
        stage.enqueue_backlog()
        stage.wires.server.freeze(stage.plan.freeze_s)


def the_master_dies(stage: Stage) -> None:
    """kill -9 of the master; Sentinel has its replica take over."""
    for number in range(int(stage.plan.seconds) * 10):
        stage.enqueue_good(number)
    assert isinstance(stage.wires, WiresOfTwo)
    # Only what the replica has can outlive its master: that is Redis' promise, not a worker's.
    with stage.wires.master.client() as master:
        assert master.wait(1, 10_000) == 1
    stage.wires.master.kill()
    stage.wires.server.wait_until(lambda client: client.info("replication")["role"] == "master")


def memory_is_full(stage: Stage) -> None:
    """Redis refuses every write that needs memory, then there is room again."""
    with stage.producing(), stage.wires.server.client() as redis:
        stage.enqueue_backlog()
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] // 2)
        time.sleep(FULL_FOR_S)
        redis.config_set("maxmemory", 0)


def bad_jobs(stage: Stage) -> None:
    """Poison of every kind among good jobs."""
    poison.enqueue_all(stage)


@contextmanager
def one_server(home: Path, _: random.Random) -> Iterator[Wires]:
    server = Server(home / "redis")
    try:
        yield Wires(server, server.url, server.url)
    finally:
        server.kill()


def through_a_cutter(mean_bytes: float, late_one_in: int = 0) -> MakeWires:
    @contextmanager
    def wires(home: Path, rng: random.Random) -> Iterator[Wires]:
        with one_server(home, rng) as straight:
            cutter = Cutter(straight.server.port, rng, mean_bytes, late_one_in)
            try:
                yield Wires(straight.server, cutter.url, cutter.url, cutter.cut)
            finally:
                cutter.close()

    return wires


@dataclass(frozen=True, kw_only=True)
class WiresOfTwo(Wires):
    """`server` is the replica, which is asked in the end."""

    master: Server


@contextmanager
def with_sentinel(home: Path, _: random.Random) -> Iterator[Wires]:
    started: list[Server] = []
    try:
        started.append(master := Server(home / "master"))
        follow = ("--replicaof", "127.0.0.1", str(master.port))
        started.append(replica := Server(home / "replica", *follow))
        started.append(sentinel := Sentinel(home / "sentinel", master))
        yield WiresOfTwo(replica, sentinel.url, sentinel.url, master=master)
    finally:
        for server in started:
            server.kill()


answers_are_late = through_a_cutter(1e9, LATE_ONE_IN)
SCENARIOS = {
    "kill_a_child": Scenario(often(0.5, kill_a_child), one_server),
    "kill_a_supervisor": Scenario(often(KILL_ROOT_EVERY_S, kill_a_root), one_server),
    "kill_everything": Scenario(often(KILL_ALL_EVERY_S, kill_all), one_server),
    "kill_at_random": Scenario(
        often(0.5, *[kill_a_child] * 16, *[kill_a_root] * 3, kill_all), one_server
    ),
    "short_halts": Scenario(often(HALT_EVERY_S, halt), one_server, processes_die=False),
    "names_come_back": Scenario(names_come_back, answers_are_late, ours="named", dynos=NAMES + 1),
    "deploys": Scenario(deploys, one_server),
    "a_dyno_is_frozen": Scenario(a_dyno_is_frozen, one_server),
    "redis_is_killed": Scenario(
        often(KILL_ALL_EVERY_S, kill_redis), one_server, processes_die=False
    ),
    "redis_is_frozen": Scenario(redis_is_frozen, one_server, processes_die=False),
    "connections_are_cut": Scenario(
        often(1, nothing), through_a_cutter(MEAN_BYTES_UNTIL_CUT), processes_die=False
    ),
    "answers_are_late": Scenario(often(1, nothing), answers_are_late, processes_die=False),
    "all_at_once": Scenario(
        often(HALT_EVERY_S, *[halt] * 20, *[kill_a_child] * 3, kill_a_root, reload),
        answers_are_late,
    ),
    "the_master_dies": Scenario(the_master_dies, with_sentinel, redis_forgets=True),
    "memory_is_full": Scenario(memory_is_full, one_server, processes_die=False),
    "bad_jobs": Scenario(bad_jobs, one_server),
}
