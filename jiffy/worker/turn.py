"""Take and settle: one exchange with Redis does both, for as many jobs as there are.

After a turn the worker holds what it asked to keep and what it took, nothing else.  So a turn whose
reply was lost is simply taken again: what is settled stays settled, and what was taken unheard goes
back to the front of its queue.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Any

from redis import Redis

from jiffy import keys
from jiffy.worker.line import Line
from jiffy.worker.outcome import Finished, Taken

LEASE_S = 10
DEFAULT_TIMEOUT_S = 180
_ALL = '"all"'
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
        self._holds = False
        self._head = _head(name)
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
        taken = self._read(lengths, fields)
        self._holds = bool(taken or keep or rare)
        return taken, needs_rq, bool(suspended)

    def wait_and_take(
        self, want: int, finished: Sequence[Finished], wait_s: float
    ) -> tuple[list[Taken], list[Finished], bool]:
        """Settle `finished`, wait until there may be something to take, and take up to `want`.

        All in one round trip: Redis goes on with the take when the wait is over.  Returns
        what `take` returns; it does not wait if some of `finished` need RQ's own way.
        """
        wakes = [keys.wake(queue) for queue in self.names]
        wait = ("BLPOP", keys.rare(self._name), *wakes, wait_s)

        def say() -> list[Any]:
            settle = [self.line.script("turn", *self._call(0, finished, ()))] if self._holds else []
            self._holds = True  # if no answer comes, nobody knows: the next try gives all back
            take = self.line.script("turn", *self._call(want, (), None))
            return self.line.exchange(*settle, wait, take)

        *settled, _, (suspended, _, lengths, fields) = self.line.insist(say)
        needs_rq = [finished[position] for _, rare, *_ in settled for position in rare]
        taken = self._read(lengths, fields)
        self._holds = bool(taken or needs_rq)
        return taken, needs_rq, bool(suspended)

    def _call(
        self, want: int, finished: Sequence[Finished], keep: Sequence[Taken] | None
    ) -> tuple[list[str], list[object]]:
        self._number += 1
        return self._head + [keys.queue(name) for name in self.names], [
            self._name,
            want,
            self._lease_s,
            f"{self._token}{self._number & 0xFFFFFFFF:08x}",
            f"[{','.join(outcome.row for outcome in finished)}]",
            _ALL if keep is None else json.dumps([taken.execution for taken in keep]),
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


def settle_for(line: Line, worker: str, rows: str) -> None:
    """Settle what a child has finished, in its stead; what it holds besides stays as it is.

    `rows` is `Board.noted`.  Raises redis-py's errors; safe to repeat, and after the child itself.
    """
    line.run("turn", _head(worker), [worker, 0, LEASE_S, "", f"[{rows}]", _ALL])


def _head(worker: str) -> list[str]:
    own = [keys.worker(worker), keys.held(worker), keys.last_turn(worker)]
    return [*own, keys.LEASES, keys.SUSPENDED]
