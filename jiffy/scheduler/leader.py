"""Which of several schedulers does the work while the others wait.

It saves work and nothing else: where two believe to lead, each run is still enqueued once.
"""

import json
import os
import secrets
import socket
from contextlib import suppress

from redis import Redis
from redis.exceptions import ResponseError

from jiffy import clock, keys, log
from jiffy.control import read
from jiffy.errors import NotShown
from jiffy.redis_io import run_script
from jiffy.settings import settings

# A leader renews its lease before each wait, and waits for two seconds at most.
LEASE_S = 4.0
RENEW_AFTER_S = 0.5
_LEASE_MS = int(LEASE_S * 1000)
_SHORTEST_WAIT_S = 0.01  # to BLPOP, 0 is without end


def wait_for_token(redis: Redis, key: str, longest_s: float) -> bool:
    """Wait until there is a token of ours; what else stands there is deleted."""
    try:
        return bool(redis.blpop([key], longest_s))
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return bool(redis.delete(key))


class Leader:
    """This process' claim to lead.

    It also holds rq-scheduler's lock: a stock `rqscheduler` would end at an entry that is JSON, and
    enqueue others twice.  With `keeps_stock_out` the lock outlives the last scheduler of ours.
    """

    def __init__(self, redis: Redis, *, keeps_stock_out: bool = False) -> None:
        self._redis = redis
        self._stock_ms = None if keeps_stock_out else _LEASE_MS
        self._token = secrets.token_hex(8)  # in the key's value while this process leads
        self._who = f"{settings().dyno or socket.gethostname()}:{os.getpid()}"
        self._renewed_at = -LEASE_S
        self._is_doubted = False
        self._other: object = None  # the process that was last seen to lead
        self._free_in_s = 0.0
        self.is_held = False  # whether this process led when it was last asked
        self.is_new = False  # whether the last `leads` took the lead, rather than kept it

    def leads(self) -> bool:
        """Renew the lead, or take it if it is free; return whether it is this process'."""
        asked_at, self.is_new = clock.monotonic(), False
        if self.is_held and asked_at < self._renewed_at + RENEW_AFTER_S:
            return True
        if not (self.is_held and not self._is_doubted and self._renew()) and not self._take():
            return False
        self._renewed_at = asked_at
        return True

    def doubt(self) -> None:
        """Take the lead anew: a full Redis renews a lease, but would write none."""
        self._renewed_at, self._is_doubted = -LEASE_S, True

    def stand_by(self) -> None:
        """Wait until the lead may be free: its holder has left, or is dead."""
        wait_for_token(self._redis, keys.LEADER_LEFT, max(self._free_in_s, _SHORTEST_WAIT_S))

    def resign(self) -> None:
        """Let another lead, now, also where the answer to a claim was lost."""
        run_script(self._redis, "resign", [keys.LEADER, keys.LEADER_LEFT], [self._token, _LEASE_MS])
        self.is_held = False

    def _renew(self) -> bool:
        """At worst, another's lease is renewed by it for once."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.getex(keys.LEADER, px=_LEASE_MS)
            pipe.set(keys.STOCK_LOCK, self._who, px=self._stock_ms)
            value, _ = pipe.execute(raise_on_error=False)  # a full Redis still renews the lease
        if isinstance(value, Exception):
            raise value
        return self._token.encode() in (value or b"")

    def _take(self) -> bool:
        """Take the lead if it is free; it may be ours, in doubt or as an answer was lost."""
        claim = {"who": self._who, "since": clock.rq_text(clock.wall()), "token": self._token}
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.LEADER, json.dumps(claim), nx=True, px=_LEASE_MS)
            pipe.get(keys.LEADER)
            pipe.pttl(keys.LEADER)
            # One of ours leads, whichever; one that waits does not change how long the lock lasts.
            pipe.set(keys.STOCK_LOCK, self._who, px=_LEASE_MS, nx=True)
            is_taken, value, left_ms, _ = read.answers(pipe)
        if left_ms == -1 or left_ms > _LEASE_MS:  # not data of ours: each lease ends
            self._redis.delete(keys.LEADER)
        self._is_doubted, self._free_in_s = False, min(max(0, left_ms) / 1000, LEASE_S)
        was_held, self.is_held = self.is_held, self._token.encode() in (value or b"")
        self.is_new = self.is_held and bool(is_taken or not was_held)
        who: object = None
        with suppress(NotShown, AttributeError):  # not data of ours
            who = read.value(value or b"{}").get("who")
        if self.is_new and not was_held:
            log.event("leader.gained", who=who)
        elif was_held and not self.is_held:
            log.event("leader.lost", log.WARNING, to=who)
        if not self.is_held and who and who != self._other:
            log.event("leader.followed", who=who)
        self._other = None if self.is_held else who or self._other
        return self.is_held and (self._renew() or self.is_new)
