"""The leases of a supervisor's workers: as long as they are renewed, nobody rescues their jobs."""

from collections.abc import Sequence

from redis import Redis
from rq import worker_registration
from rq.defaults import DEFAULT_WORKER_TTL
from rq.worker import WorkerStatus

from jiffy import clock, keys
from jiffy.worker.line import Line
from jiffy.worker.rescue import Verdict
from jiffy.worker.slot import Slot
from jiffy.worker.turn import LEASE_S

# Of three renewals two may fail.
RENEW_EVERY_S = LEASE_S / 3


class Leases:
    """Registers workers with RQ, and renews their leases for as long as they have a child."""

    def __init__(self, redis: Redis, line: Line, slots: Sequence[Slot]) -> None:
        self._redis, self._line = redis, line
        self._slots = {slot.name: slot for slot in slots}

    def register(self) -> None:
        """Let RQ know of the workers."""
        for slot in self._slots.values():
            slot.face.register_birth()
            slot.face.set_state(WorkerStatus.STARTED)

    def renew(self) -> None:
        """Renew all leases in one round trip.  Raises redis-py's errors."""
        if not self._slots:
            return
        now_s = clock.wall()
        arguments = [LEASE_S, clock.rq_text(now_s), now_s, DEFAULT_WORKER_TTL + 60, *self._slots]
        (gone,) = self._line.run("renew", [keys.LEASES], arguments)
        for name in gone:
            self._on_lost(self._slots[name.decode()])

    def give_up(self, slot: Slot) -> None:
        """This worker ends, and holds nothing that anybody must rescue."""
        self._redis.zrem(keys.LEASES, slot.name)
        self._redis.delete(keys.last_turn(slot.name))
        slot.face.register_death()
        del self._slots[slot.name]

    def _on_lost(self, slot: Slot) -> None:
        """Somebody took this worker for dead (or Redis is new), and may run its job by now."""
        if slot.board.running is not None:
            slot.kill(Verdict.FREE, "its lease was lost")
        with self._redis.pipeline() as pipeline:
            pipeline.hset(slot.face.key, mapping=slot.face.serialize())
            worker_registration.register(slot.face, pipeline)
            pipeline.execute()
