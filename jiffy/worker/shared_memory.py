"""The memory that a child shares with its supervisor: what runs, and what each wants of the other.

The order of writing matters where two of them race: see `begin` and `halt`.  Beside the numbers
stand the plans for the jobs of the batch that have ended, of which Redis does not know yet: what is
noted there is sent, even if the child dies.
"""

import ctypes
import mmap
import os
from dataclasses import dataclass
from typing import ClassVar

from jiffy import clock

OUTCOMES_BYTES = 1 << 18


@dataclass(frozen=True)
class Running:
    """The job that a child runs."""

    batch: int
    position: int
    began: float
    limit_s: float


class _Numbers(ctypes.Structure):
    position: int  # of the job that runs; -1: none does
    began: float
    limit_s: float
    batch: int
    last: int  # the position of the last job that the child holds
    is_asleep: int  # waiting for work
    is_halted: int  # it begins nothing more of this batch
    retires: int  # it ends after the job that runs; 2: its worker, too
    interrupt_reason: int  # why the job that began at `meant` must end: INTERRUPT, TIMEOUT, STOP
    meant: float
    noted_bytes: int  # of plans: see `noted`
    fork: int  # the process in which the child has a job run; 0: in its own
    memory_bytes: int  # that the child had in RAM before the job that runs
    _fields_ = [
        (name, ctypes.c_int64 if kind is int else ctypes.c_double)
        for name, kind in __annotations__.items()
    ]


class Board:
    """What a child and its supervisor know of each other.  The memory survives the child.

    It is shared by processes that fork; a spawned one opens it by its file descriptor.
    """

    INTERRUPT, TIMEOUT, STOP = 1, 2, 3
    LAYOUT: ClassVar = [field[0] for field in _Numbers._fields_]
    _SIZE: ClassVar = ctypes.sizeof(_Numbers)

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        memory = mmap.mmap(fd, self._SIZE + OUTCOMES_BYTES)
        self.numbers = _Numbers.from_buffer(memory)
        self._outcomes = memoryview(memory)[self._SIZE :]
        if fd == -1:
            self.reset()

    @classmethod
    def in_file(cls) -> "Board":
        """One that a spawned process can open; to be reset first."""
        fd = os.memfd_create("board")
        os.truncate(fd, cls._SIZE + OUTCOMES_BYTES)
        return cls(fd)

    def reset(self) -> None:
        """A new child is about to start."""
        ctypes.memset(ctypes.byref(self.numbers), 0, self._SIZE)
        self.numbers.position = -1

    # The child's side

    def hold(self, batch: int, last: int) -> None:
        """The child holds the jobs of this batch up to position `last`, and has begun none.

        All that came before is finished in Redis.
        """
        numbers = self.numbers
        numbers.position = -1
        numbers.noted_bytes = 0
        numbers.batch, numbers.last = batch, last
        numbers.is_halted = 0

    def begin(self, position: int, limit_s: float) -> bool:
        """Write which job begins now; False if it must not: the rest is requeued, or was.

        Written first and read second, and the supervisor does it the other way round: whichever
        way the two meet, the job is either begun or requeued, never both.
        """
        numbers = self.numbers
        self.relimit(limit_s)
        numbers.position = position
        if numbers.is_halted or numbers.retires:
            numbers.position = -1
            return False
        return True

    def relimit(self, limit_s: float) -> None:
        """What follows of this job (a callback) has a limit of its own."""
        self.numbers.began = clock.monotonic()
        self.numbers.limit_s = limit_s  # second: see `running`

    def end(self) -> None:
        self.numbers.position = -1

    def note(self, plan: bytes) -> bool:
        """Write down what is to be sent to Redis of a job; False if there is no room."""
        start = self.numbers.noted_bytes
        end = start + len(plan) + 1
        if end > OUTCOMES_BYTES:
            return False
        self._outcomes[start:end] = plan + b","
        self.numbers.noted_bytes = end  # last: the supervisor finds whole plans
        return True

    @property
    def interrupt_reason(self) -> int:
        """Why the running job must end now: INTERRUPT, TIMEOUT, STOP, or 0."""
        numbers = self.numbers
        is_meant = numbers.position >= 0 and numbers.meant == numbers.began
        return numbers.interrupt_reason if is_meant else 0

    @property
    def is_retiring(self) -> bool:
        return bool(self.numbers.retires)

    @property
    def is_retiring_for_good(self) -> bool:
        return self.numbers.retires > 1

    # The supervisor's side

    @property
    def running(self) -> Running | None:
        numbers = self.numbers
        while (position := numbers.position) >= 0:
            batch = numbers.batch
            # In this order: a limit is never taken for that of what began before it was set.
            limit_s, began = numbers.limit_s, numbers.began
            if (batch, position) == (numbers.batch, numbers.position):
                return Running(batch, position, began, limit_s)
        return None

    @property
    def noted(self) -> bytes:
        """The plans that Redis does not know of, with commas between."""
        return bytes(self._outcomes[: max(self.numbers.noted_bytes - 1, 0)])

    def retire(self, *, for_good: bool = True) -> None:
        """Let the child end after the job that it runs; `for_good`: no other takes its place."""
        self.numbers.retires = 1 + for_good
        self.halt()

    def halt(self) -> Running | None:
        """Let the child begin nothing more of what it holds; return what it runs.

        None, too, if it has gone on to its next batch meanwhile: of that it may begin all.
        """
        self.numbers.is_halted = 1
        running = self.running  # read after that is written: now it begins nothing more
        return running if self.numbers.is_halted else None

    def interrupt(self, running: Running, why: int) -> bool:
        """Write why the running job must end; False if that was written.  A signal makes the child
        look.
        """
        if self.numbers.meant == running.began:
            return False
        self.numbers.interrupt_reason, self.numbers.meant = why, running.began
        return True
