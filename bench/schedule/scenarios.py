"""What goes wrong while a tick is due each second.

Each function returns when its last fault is over.
"""

import time
from contextlib import AbstractContextManager

from bench.proxy import longer
from bench.schedule.pair import Pair
from bench.schedule.stage import Scenario, Stage

ROUND_TRIP_S = 0.02
KILL_EVERY_S = 5
DEPLOY_EVERY_S = 10
# Some ticks come before, so that what is measured is not a start.
BEFORE_S = 8
AWAY_S, LONG_AWAY_S = 10, 70
FAILOVER_AFTER_S = 30


def nothing(_: Stage) -> None:
    """No fault: what is measured is the scheduler."""


def kills(stage: Stage) -> None:
    """kill -9 of all schedulers at the same moment."""
    for _ in stage.every(KILL_EVERY_S):
        stage.kill_all()


def deploys(stage: Stage) -> None:
    """The new schedulers start as the old ones have SIGTERM."""
    for _ in stage.every(DEPLOY_EVERY_S):
        stage.deploy()


def redis_stops(stage: Stage) -> None:
    """Redis ends, and is back on its data after a while."""
    time.sleep(BEFORE_S)
    stage.server.kill()
    time.sleep(AWAY_S)
    stage.server.start()


def redis_is_frozen(stage: Stage) -> None:
    """Redis answers nothing for a long time: neither an error nor an end of the connection."""
    time.sleep(BEFORE_S)
    stage.server.freeze(LONG_AWAY_S)


def redis_restarts(stage: Stage) -> None:
    """kill -9 of Redis, which is started again at once."""
    for _ in stage.every(KILL_EVERY_S):
        stage.server.kill()
        stage.server.start()


def redis_fails_over(stage: Stage) -> None:
    """kill -9 of the primary; its replica takes over, at the same address.

    Replication does not wait: a write that the primary has confirmed in its last moment may be
    lost.  What the watcher took before counts all the same, as a worker would have run it; if its
    tick comes again from the replica, it is doubled.
    """
    assert isinstance(stage.server, Pair)
    time.sleep(FAILOVER_AFTER_S)
    stage.server.fail_over()


def _far_away(url: str) -> AbstractContextManager[str]:
    return longer(url, ROUND_TRIP_S)


SCENARIOS = {
    "steady": Scenario(nothing),
    "two at once": Scenario(nothing, schedulers=2),
    "two, killed every 5 s": Scenario(kills, schedulers=2, seconds=60),
    "a deploy every 10 s": Scenario(deploys),
    "20 ms to Redis": Scenario(nothing, wire=_far_away),
    "Redis killed every 5 s": Scenario(redis_restarts),
    "Redis away for 10 s": Scenario(redis_stops),
    "Redis frozen for 70 s": Scenario(redis_is_frozen, seconds=100),
    "failover to a replica": Scenario(redis_fails_over, seconds=60, server=Pair),
}
