"""What the supervisor and its children tell each other without Redis: a few numbers in memory.

A child writes what it runs, the supervisor reads it at its leisure, and the other way round.  Each
number has one writer.  The order of writing matters where two of them race: see `begin` and `halt`.

Beside the numbers stand the outcomes of the batch that Redis does not know of yet: whatever becomes
of the child, what has finished has finished.
"""

import mmap
import os
from dataclasses import dataclass

from jiffy import clock

NOTES_BYTES = 1 << 18
_FIELDS = (
    "position", "began", "limit", "last", "asleep", "halted", "signalled", "why", "batch", "stop",
    "noted",
)  # fmt: skip


@dataclass(frozen=True)
class Running:
    """The job that a child runs: its batch and its position there, since when, its limit."""

    batch: int
    position: int
    began: float
    limit_s: float


_CELLS_BYTES = 8 * len(_FIELDS)


class Board:
    """One child's numbers.  The memory survives the child.

    It is shared by processes that fork; a spawned one opens it by its file descriptor.
    """

    INTERRUPT, TIMEOUT = 1, 2

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        memory = memoryview(mmap.mmap(fd, _CELLS_BYTES + NOTES_BYTES))
        self._cells, self._notes = memory[:_CELLS_BYTES].cast("d"), memory[_CELLS_BYTES:]
        if fd == -1:
            self.reset()

    @classmethod
    def in_file(cls) -> "Board":
        """A new one, which a spawned process can open."""
        fd = os.memfd_create("board")
        os.truncate(fd, _CELLS_BYTES + NOTES_BYTES)
        board = cls(fd)
        board.reset()
        return board

    def reset(self) -> None:
        """A new child is about to start."""
        for cell in range(len(_FIELDS)):
            self._cells[cell] = 0
        self._cells[0] = -1

    # The child's side

    def hold(self, batch: int, last: int) -> None:
        """The child holds the jobs of this batch up to position `last`, and has begun none.

        All that came before is settled.
        """
        self._cells[0] = -1
        self._cells[10] = 0
        self._cells[8] = batch
        self._cells[3] = last
        self._cells[5] = 0

    def begin(self, position: int, limit_s: float) -> bool:
        """Say which job begins now; False if it must not: the rest was given back, or goes back.

        Written first and asked second, and the supervisor does it the other way round: whichever
        way the two meet, the job is either begun or given back, never both.
        """
        cells = self._cells
        cells[2] = limit_s
        cells[1] = clock.monotonic()
        cells[0] = position
        return not (cells[5] or cells[9])

    def end(self) -> None:
        """The job is over."""
        self._cells[0] = -1

    def note(self, outcome: str) -> bool:
        """Write down an outcome that Redis is to know of; False if there is no room."""
        row = f"{outcome},".encode("utf-8", "surrogateescape")
        start = int(self._cells[10])
        if start + len(row) > NOTES_BYTES:
            return False
        self._notes[start : start + len(row)] = row
        self._cells[10] = start + len(row)  # last: whoever reads it finds whole rows
        return True

    def forget_notes(self) -> None:
        """Redis knows of all outcomes by now."""
        self._cells[10] = 0

    def relimit(self, limit_s: float) -> None:
        """What follows of this job (a callback) has a limit of its own."""
        self._cells[2] = limit_s
        self._cells[1] = clock.monotonic()

    def sleep(self, asleep: bool) -> None:
        """The child waits for work, or does so no longer."""
        self._cells[4] = asleep

    @property
    def must_leave(self) -> int:
        """Why the running job must be left now: INTERRUPT, TIMEOUT, or 0."""
        cells = self._cells
        return int(cells[7]) if cells[6] and cells[6] == cells[1] and cells[0] >= 0 else 0

    @property
    def must_stop(self) -> bool:
        return bool(self._cells[9])

    # The supervisor's side

    @property
    def running(self) -> Running | None:
        """The job that the child runs."""
        cells = self._cells
        if cells[0] < 0:
            return None
        return Running(int(cells[8]), int(cells[0]), cells[1], cells[2])

    @property
    def last(self) -> int:
        """The position of the last job that the child holds."""
        return int(self._cells[3])

    @property
    def noted(self) -> str:
        """The outcomes that the child has not settled, with commas between."""
        return (
            bytes(self._notes[: int(self._cells[10])])
            .decode("utf-8", "surrogateescape")
            .rstrip(",")
        )

    @property
    def is_asleep(self) -> bool:
        return bool(self._cells[4])

    def stop(self) -> None:
        """Let the child end after the job that it runs."""
        self._cells[9] = 1
        self.halt()

    def halt(self) -> None:
        """Let the child begin nothing more of what it holds."""
        self._cells[5] = 1

    def ask_to_leave(self, running: Running, why: int) -> None:
        """Say why the running job must be left; a signal makes the child look."""
        self._cells[7] = why
        self._cells[6] = running.began
