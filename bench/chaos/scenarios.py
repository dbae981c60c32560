"""What goes wrong.  Each function brings its faults, and returns when the last one is over."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.chaos import poison
from bench.chaos.cutter import Cutter
from bench.chaos.servers import Sentinel, Server
from bench.chaos.stage import Long, Scenario, Stage, Wires

KILL_EVERY_S = 0.5
# Long enough for a Python program to start and to begin work.
KILL_ROOT_EVERY_S = 1.5
KILL_ALL_EVERY_S = 4
REDIS_AWAY_S = 1
# Our scripts are 35 kB, and a process that starts has to get each of them through.
MEAN_BYTES_UNTIL_CUT = 40_000
FULL_FOR_S = 8
DEPLOYS = 3


def kill_a_child(stage: Stage) -> None:
    """kill -9 of one child every half second."""
    with stage.producing():
        for _ in stage.every(KILL_EVERY_S):
            stage.fleet.kill_a_child(stage.rng)


def kill_a_supervisor(stage: Stage) -> None:
    """kill -9 of one first process of a dyno; the platform starts it again."""
    with stage.producing():
        for _ in stage.every(KILL_ROOT_EVERY_S):
            stage.fleet.kill_a_root(stage.rng)


def kill_everything(stage: Stage) -> None:
    """kill -9 of every process at the same moment."""
    with stage.producing():
        for _ in stage.every(KILL_ALL_EVERY_S):
            stage.fleet.kill_all()


def kill_at_random(stage: Stage) -> None:
    """A child, a supervisor or everything, every half second."""
    kinds: list[Callable[[], None]] = [
        lambda: stage.fleet.kill_a_child(stage.rng),
        lambda: stage.fleet.kill_a_root(stage.rng),
        stage.fleet.kill_all,
    ]
    with stage.producing():
        for _ in stage.every(KILL_EVERY_S):
            stage.rng.choices(kinds, weights=[16, 3, 1])[0]()


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


def redis_is_killed(stage: Stage) -> None:
    """kill -9 of Redis; it comes back with its AOF."""
    with stage.producing():
        for _ in stage.every(KILL_ALL_EVERY_S):
            stage.wires.server.kill()
            time.sleep(REDIS_AWAY_S)
            stage.wires.server.start()


def redis_is_frozen(stage: Stage) -> None:
    """Redis answers nothing for a while: neither an error nor an end of the connection."""
    with stage.producing():
        stage.enqueue_backlog()
        stage.wires.server.freeze(stage.plan.freeze_s)


def connections_are_cut(stage: Stage) -> None:
    """Connections break at random bytes while jobs are enqueued, taken and settled."""
    with stage.producing():
        stage.wires.cut(True)
        time.sleep(stage.plan.seconds)
        stage.wires.cut(False)


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


@contextmanager
def through_a_cutter(home: Path, rng: random.Random) -> Iterator[Wires]:
    with one_server(home, rng) as wires:
        cutter = Cutter(wires.server.port, rng, MEAN_BYTES_UNTIL_CUT)
        try:
            yield Wires(wires.server, cutter.url, cutter.url, cutter.cut)
        finally:
            cutter.close()


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


SCENARIOS = {
    "kill_a_child": Scenario(kill_a_child, one_server),
    "kill_a_supervisor": Scenario(kill_a_supervisor, one_server),
    "kill_everything": Scenario(kill_everything, one_server),
    "kill_at_random": Scenario(kill_at_random, one_server),
    "deploys": Scenario(deploys, one_server),
    "a_dyno_is_frozen": Scenario(a_dyno_is_frozen, one_server),
    "redis_is_killed": Scenario(redis_is_killed, one_server),
    "redis_is_frozen": Scenario(redis_is_frozen, one_server),
    "connections_are_cut": Scenario(connections_are_cut, through_a_cutter),
    "the_master_dies": Scenario(the_master_dies, with_sentinel),
    "memory_is_full": Scenario(memory_is_full, one_server),
    "bad_jobs": Scenario(bad_jobs, one_server),
}
