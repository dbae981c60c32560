"""The place of one child, which RQ sees as one worker; the process in it may change."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from rq.worker import BaseWorker

from jiffy import clock, rq_compat
from jiffy.worker import process
from jiffy.worker.board import Board, Running
from jiffy.worker.recovery import Death, Verdict


@dataclass
class Slot:
    """One child: its face to RQ, its board, its process, and what the supervisor wants of it."""

    face: BaseWorker
    work: Callable[[Board, str], int]  # given the token of its executions
    board: Board = field(default_factory=Board)
    forks: bool = True  # or else its processes run this program from its beginning
    pid: int = 0  # 0: none now, one is to start at `starts_at`
    starts_at: float = 0
    death: Death | None = None  # why the supervisor is having it killed
    must_leave: bool = False  # it is not started again
    is_recycled: bool = False  # it ends between two jobs and is started again
    released: int = -1  # the batch of which the rest was given back
    left_rows: str = ""  # outcomes that a dead child has left
    left_death: Death | None = None  # a death that Redis does not know of yet
    _token: str = ""
    _asked: float = 0  # the beginning of the job that was last asked to leave

    @property
    def name(self) -> str:
        return self.face.name

    def start(self) -> None:
        """Start the child.  Raises OSError."""
        self.board.reset()
        self.death, self.is_recycled, self.released = None, False, -1
        self._token = secrets.token_hex(8)
        if self.forks:
            self.pid = process.fork(lambda: self.work(self.board, self._token))
        else:
            self.pid = process.spawn(self.name, self.board.fd, self._token, fd=self.board.fd)
        self.face.pid = self.pid

    def execution_of(self, running: Running) -> str:
        """The id of the execution that the child runs."""
        return f"{self._token}{running.batch:08x}{running.position:08x}"

    def end_soon(self) -> None:
        """Let the child end after the job that it runs."""
        self.board.stop()
        self._wake()

    def ask_to_leave(self, running: Running, why: int) -> None:
        """Make the running job end, by an exception in it.  It is asked once."""
        if self._asked != running.began:
            self._asked = running.began
            self.board.ask_to_leave(running, why)
            self._wake()

    def kill(
        self, verdict: Verdict, cause: str, *,
        was_stopped: bool = False, error_names: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Kill the child with all that its job started; `verdict` is for the job that it runs."""
        if self.pid:
            if self.death is None:
                running = self.board.running
                self.death = Death(
                    worker=self.name, cause=cause, verdict=verdict, was_stopped=was_stopped,
                    execution=self.execution_of(running) if running else "",
                    error_names=error_names,
                )  # fmt: skip
            process.kill_group(self.pid)

    def note_stop(self) -> None:
        """Leave the marks that RQ's busy worker leaves when it is told to stop."""
        rq_compat.mark_stopping(self.face, clock.now())

    def _wake(self) -> None:
        if self.pid:
            process.tell(self.pid, process.LOOK)
