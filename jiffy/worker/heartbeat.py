"""The leases of a supervisor's workers: as long as they are renewed, their jobs are theirs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError
from rq import worker_registration
from rq.defaults import DEFAULT_WORKER_TTL
from rq.worker import WorkerStatus

from jiffy import history, keys, system
from jiffy.redis_io import Link
from jiffy.settings import settings
from jiffy.worker.claim import LEASE_S
from jiffy.worker.recovery import Handling

if TYPE_CHECKING:
    from jiffy.worker.supervisor import ChildProcess

# Of three renewals two may fail.
RENEW_EVERY_S = LEASE_S / 3


class Heartbeat:
    """Registers workers with RQ, and renews their leases for as long as they are this supervisor's.

    Where Redis is full, or one of RQ's keys holds something else, workers run all the same, and
    RQ shows them as soon as that has ended.
    """

    def __init__(self, redis: Redis, link: Link, children: Sequence["ChildProcess"]) -> None:
        self._redis, self._link = redis, link
        self._children = {child.name: child for child in children}
        self._unknown: set[str] = set()  # the names that RQ does not know yet, or any more

    def register(self) -> None:
        """Let RQ know of the workers."""
        for child in self._children.values():
            with self._showing(child):
                child.rq_worker.register_birth()
                child.rq_worker.set_state(WorkerStatus.STARTED)
                self._show(child)
        self.renew()

    def renew(self) -> None:
        """Renew all leases in one round trip.  Raises redis-py's errors."""
        if not self._children:
            return
        arguments: list[str | float] = [LEASE_S, DEFAULT_WORKER_TTL + 60]
        for name, child in self._children.items():
            # Elsewhere, each is a process of `ps`.
            memory = child.memory_bytes if system.IS_LINUX else 0
            arguments += [name, memory, "yes" if child.is_quiet else ""]
        gone = self._link.run("heartbeat", [keys.LEASES], arguments)
        for name, still in zip(gone[::2], gone[1::2], strict=True):
            self._on_lost(self._children[name.decode()], still.decode("utf-8", "replace"))
        for name in self._unknown & self._children.keys():
            with self._showing(self._children[name]):
                self._show(self._children[name])

    def give_up(self, child: "ChildProcess") -> None:
        """This worker ends, and holds nothing that must be recovered."""
        self._redis.zrem(keys.LEASES, child.name)
        with self._showing(child):
            child.rq_worker.register_death()
        self._children.pop(child.name, None)

    def _on_lost(self, child: "ChildProcess", still: str) -> None:
        """This worker was taken for dead (or Redis is new): unless it is among those that are
        `still` its own, its job may run elsewhere by now.
        """
        if (running := child.board.running) and child.execution_of(running) not in still:
            child.kill(Handling.REQUEUE, "its lease was lost")
        self._unknown.add(child.name)

    def _show(self, child: "ChildProcess") -> None:
        config, key = settings(), child.rq_worker.key
        place = {keys.RELEASE_FIELD: config.this_release, keys.DYNO_FIELD: config.dyno or ""}
        with self._redis.pipeline() as pipeline:
            pipeline.hset(key, mapping=child.rq_worker.serialize() | place)
            worker_registration.register(child.rq_worker, pipeline)
            pipeline.execute()
        if config.this_release:
            history.note_release(self._redis, config.this_release)

    @contextmanager
    def _showing(self, child: "ChildProcess") -> Iterator[None]:
        """Keep a refusal of Redis from ending the worker; it is shown to RQ later."""
        try:
            yield
            self._unknown.discard(child.name)
        except ResponseError as error:
            if not isinstance(error, OutOfMemoryError) and "WRONGTYPE" not in str(error):
                raise
            self._unknown.add(child.name)
