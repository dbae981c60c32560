"""Which of several schedulers does the work while the others wait.

It saves work and nothing else: where two believe to lead, each run is still enqueued once.
"""

import json
import os
import secrets
import socket
from typing import Any

from redis import Redis

from jiffy import clock, keys, log
from jiffy.redis_io import run_script
from jiffy.settings import settings

# A leader renews its lease before each wait, and waits for two seconds at most.
LEASE_S = 4.0
RENEW_AFTER_S = 0.5
_LEASE_MS = int(LEASE_S * 1000)
_SHORTEST_WAIT_S = 0.01  # to BLPOP, 0 is without end


class Leader:
    """This process' claim to lead.

    It also holds the lock of rq-scheduler: a stock `rqscheduler` would end at an entry that is
    JSON, and enqueue others a second time.  With `keeps_stock_out` the lock stays when no scheduler
    of ours runs any more.
    """

    def __init__(self, redis: Redis, *, keeps_stock_out: bool = False) -> None:
        self._redis = redis
        self._stock_ms = None if keeps_stock_out else _LEASE_MS
        self._token = secrets.token_hex(8)
        self._who = f"{settings().dyno or socket.gethostname()}:{os.getpid()}"
        self._own: bytes | None = None  # the key's value while this process leads
        self._claim: str | None = None  # its value if a claim, not yet answered, was granted
        self._renewed_at = -LEASE_S
        self._is_doubted = False
        self._others: object = None  # the process that was last seen to lead
        self._free_in_s = 0.0
        self.is_new = False  # whether the last `leads` took the lead, rather than kept it

    @property
    def is_held(self) -> bool:
        """Whether this process led when it was last asked."""
        return self._own is not None

    def leads(self) -> bool:
        """Renew the lead, or take it if it is free; return whether it is this process'."""
        asked_at, self.is_new = clock.monotonic(), False
        if self._own and asked_at < self._renewed_at + RENEW_AFTER_S:
            return True
        if not self._is_renewed() and not self._is_taken():
            return False
        self._renewed_at = asked_at
        return True

    def doubt(self) -> None:
        """Try to take the lead at the next `leads`, whatever was known: Redis was away, or is full.

        A full one renews a lease, but refuses to write one; so it soon shows that none leads.
        """
        self._renewed_at, self._is_doubted = -LEASE_S, True

    def stand_by(self) -> None:
        """Wait until the lead may be free: its holder has left, or is dead."""
        self._redis.blpop([keys.LEADER_LEFT], max(self._free_in_s, _SHORTEST_WAIT_S))

    def resign(self) -> None:
        """Let another lead, now.  Raises redis-py's errors."""
        value = self._own or self._claim
        if value:
            leader = [keys.LEADER, keys.LEADER_LEFT]
            run_script(self._redis, "resign", leader, [value, _LEASE_MS])
        self._own = self._claim = None

    def _is_renewed(self) -> bool:
        """At worst, another's lease is renewed by it for once."""
        if self._own is None or self._is_doubted:
            return False
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.getex(keys.LEADER, px=_LEASE_MS)
            pipe.set(keys.STOCK_LOCK, self._who, px=self._stock_ms)
            value, _ = pipe.execute(raise_on_error=False)  # a full Redis still renews the lease
        if isinstance(value, Exception):
            raise value
        return bool(self._own == value)

    def _is_taken(self) -> bool:
        """Take the lead if it is free; it may be ours, in doubt or as an answer was lost."""
        claim = {"who": self._who, "since": clock.rq_text(clock.wall()), "token": self._token}
        self._claim = json.dumps(claim)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.LEADER, self._claim, nx=True, px=_LEASE_MS)
            pipe.get(keys.LEADER)
            pipe.pttl(keys.LEADER)
            # One of ours leads, whichever; one that waits does not change how long the lock lasts.
            pipe.set(keys.STOCK_LOCK, self._who, px=_LEASE_MS, nx=True)
            _, value, left_ms, _ = pipe.execute()
        self._claim, self._is_doubted = None, False
        holder = _read(value)
        is_ours = holder.get("token") == self._token
        self.is_new = is_ours and value != self._own
        self._free_in_s = max(0, left_ms) / 1000
        self._note(value if is_ours else None, holder.get("who"))
        return is_ours and (self._is_renewed() or self.is_new)

    def _note(self, own: bytes | None, who: object) -> None:
        if own and not self._own:
            log.event("leader.gained", who=who)
        elif self._own and not own:
            log.event("leader.lost", log.WARNING, to=who)
        if not own and who and who != self._others:
            log.event("leader.followed", who=who)
        self._own, self._others = own, None if own else who or self._others


def _read(value: bytes | None) -> dict[str, Any]:
    try:
        claim = json.loads(value or b"{}")
    except ValueError:
        return {}
    return claim if isinstance(claim, dict) else {}
