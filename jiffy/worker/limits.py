"""Limits that a job cannot ignore, for they are enforced from outside: time, memory, the grace."""

from dataclasses import dataclass

from jiffy import system
from jiffy.producer.retry import TIMED_OUT
from jiffy.worker.recovery import Handling
from jiffy.worker.slot import KILL_AFTER_S, Board, Running, Slot

# So long before the grace period ends, what still runs is interrupted, then killed.
INTERRUPT_BEFORE_S, KILL_BEFORE_S = 3, 1


@dataclass(frozen=True)
class Limits:
    """What is enforced; None: no limit."""

    grace_s: float = 25
    job_memory_bytes: int | None = None
    child_memory_bytes: int | None = None

    def enforce_memory(self, slot: Slot) -> None:
        """Kill a job that uses too much; replace a child that has grown, between two jobs."""
        most, recycle_at = self.job_memory_bytes, self.child_memory_bytes
        used = system.memory_bytes(slot.board.numbers.fork or slot.pid) if most or recycle_at else 0
        added = used - slot.board.numbers.memory_bytes
        if most and added > most and slot.board.running:
            reason = f"used {added >> 20} MB of memory; its limit is {most >> 20} MB"
            slot.kill(Handling.FAIL, reason)
        elif recycle_at and used > recycle_at:
            slot.renew()


def enforce_time(slot: Slot, running: Running, ran_s: float) -> None:
    """Raise JobTimeoutException in a job that is over its limit; kill it if that does not help."""
    if 0 < running.limit_s < ran_s:
        slot.interrupt(running, Board.TIMEOUT)
        if ran_s > running.limit_s + KILL_AFTER_S:
            reason = f"exceeded its limit of {running.limit_s:g} s, killed after {ran_s:.0f} s"
            slot.kill(Handling.FAIL, reason, error_names=TIMED_OUT)


def enforce_grace(slot: Slot, left_s: float) -> None:
    """Make a child leave whose worker must stop in `left_s`.

    A job is interrupted first.  Then the child is killed: without a job it waits for Redis.
    """
    running = slot.board.running
    if left_s <= KILL_BEFORE_S:
        slot.kill(Handling.REQUEUE, "the grace period of a shutdown was over")
    elif left_s <= INTERRUPT_BEFORE_S and running is not None:
        slot.interrupt(running, Board.INTERRUPT)
