"""Take and settle: one exchange with Redis does both, for as many jobs as there are.

After a turn the worker holds what it asked to keep and what it took, nothing else.  So a turn whose
reply was lost is simply taken again: what is settled stays settled, and what was taken unheard goes
back to the front of its queue.
"""

import json
import secrets
from base64 import b64encode
from collections.abc import Sequence

from redis import Redis

from jiffy import clock, keys
from jiffy.worker.line import Line
from jiffy.worker.outcome import Finished, Taken

LEASE_S = 10
DEFAULT_TIMEOUT_S = 180
_NOTHING = "[]"
# Some 300 years; much more than that is no number of seconds for Redis.
_LONGEST_S = 10**10


class Turns:
    """The turns of one worker."""

    def __init__(
        self,
        redis: Redis,
        name: str,
        queues: Sequence[str],
        result_ttl_s: int,
        lease_s: int = LEASE_S,
    ) -> None:
        # Who has a supervisor to renew its lease leaves it to say that Redis is away.
        self.line = Line(redis, tells=lease_s == 0)
        self._name = name
        self._result_ttl_s = result_ttl_s
        self._lease_s = lease_s
        self._token = secrets.token_hex(8)
        self._number = 0
        own = [keys.worker(name), keys.held(name), keys.last_turn(name)]
        self._head = [*own, keys.LEASES, keys.SUSPENDED]
        self.names = list(queues)

    def take(
        self, want: int, finished: Sequence[Finished] = (), keep: Sequence[Taken] = ()
    ) -> tuple[list[Taken], list[Finished], bool]:
        """Settle `finished`, keep `keep`, take up to `want`.

        Returns what was taken, in order; those of `finished` that have dependents and so need RQ's
        own way; and whether `rq suspend` lets nobody take anything.
        """
        (suspended, rare, lengths, fields), *_ = self.line.insist(
            lambda: self.line.run("turn", *self._call(want, finished, keep))
        )
        needs_rq = [finished[position] for position in rare]
        return self._read(lengths, fields), needs_rq, bool(suspended)

    def settle_and_wait(self, finished: Sequence[Finished], wait_s: float) -> list[Finished]:
        """Settle `finished`, then wait until there may be something to take, in one round trip.

        Returns those of `finished` that need RQ's own way: then it has not waited.
        """
        wakes = [keys.wake(queue) for queue in self.names]
        wait = ("BLPOP", keys.rare(self._name), *wakes, wait_s)
        if not finished:
            self.line.insist(lambda: self.line.exchange(wait))
            return []
        (_, rare, *_), *_ = self.line.insist(
            lambda: self.line.run("turn", *self._call(0, finished, ()), wait)
        )
        return [finished[position] for position in rare]

    def _call(
        self, want: int, finished: Sequence[Finished], keep: Sequence[Taken]
    ) -> tuple[list[str], list[object]]:
        self._number += 1
        now_s = clock.wall()
        return self._head + [keys.queue(name) for name in self.names], [
            self._name,
            want,
            self._lease_s,
            f"{self._token}{self._number & 0xFFFFFFFF:08x}",
            clock.rq_text(now_s),
            now_s,
            json.dumps([self._row(outcome) for outcome in finished]) if finished else _NOTHING,
            json.dumps([taken.execution for taken in keep]) if keep else _NOTHING,
        ]

    def _row(self, outcome: Finished) -> list[object]:
        taken = outcome.taken
        return [
            taken.queue,
            taken.job_id,
            taken.execution,
            clock.rq_text(outcome.started_s),
            clock.rq_text(outcome.ended_s),
            outcome.started_s,
            outcome.ended_s,
            taken.result_ttl_s,
            outcome.value is not None and b64encode(outcome.value).decode(),
        ]

    def _read(self, lengths: bytes, fields: bytes) -> list[Taken]:
        if not lengths:
            return []
        cut, start = [], 0
        for length in map(int, lengths.split(b",")):
            cut.append(fields[start : start + length])
            start += length
        return [self._taken(*cut[i : i + 7]) for i in range(0, len(cut), 7)]

    def _taken(
        self, kind: bytes, job_id: bytes, execution: bytes, queue: bytes, data: bytes,
        timeout: bytes, result_ttl: bytes,
    ) -> Taken:  # fmt: skip
        try:
            timeout_s = float(timeout or DEFAULT_TIMEOUT_S)
            result_ttl_s = int(result_ttl) if result_ttl else self._result_ttl_s
            if not (abs(timeout_s) <= _LONGEST_S and result_ttl_s <= _LONGEST_S):
                raise ValueError
            (job_id + queue).decode()
        except ValueError:  # no number, no time that Redis understands, or no text
            kind, timeout_s, result_ttl_s = b"corrupt", DEFAULT_TIMEOUT_S, self._result_ttl_s
        return Taken(
            kind.decode(), job_id.decode("utf-8", "surrogateescape"), execution.decode(),
            queue.decode("utf-8", "surrogateescape"), data, timeout_s, result_ttl_s,
        )  # fmt: skip
