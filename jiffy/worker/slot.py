"""The place of one child, which RQ sees as one worker; the process in it may change."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rq.worker import BaseWorker

from jiffy import clock
from jiffy.worker import process
from jiffy.worker.board import Board, Running
from jiffy.worker.rescue import Death, Verdict


@dataclass
class Slot:
    """One child: its face to RQ, its board, its process, and what the supervisor wants of it."""

    face: BaseWorker
    work: Callable[[Board], int]
    board: Board = field(default_factory=Board)
    forks: bool = True  # or else its processes run this program from its beginning
    pid: int = 0  # 0: none now, one is to start at `starts_at`
    starts_at: float = 0
    death: Death | None = None  # why the supervisor is having it killed
    leaves: bool = False  # it is not started again
    is_recycled: bool = False  # it ends between two jobs and is started again
    released: int = -1  # the batch of which the rest was given back
    _told: float = 0  # the beginning of the job that was last told to leave

    @property
    def name(self) -> str:
        return self.face.name

    def start(self) -> None:
        """Start the child."""
        self.board.reset()
        self.death, self.is_recycled, self.released = None, False, -1
        self.pid = self.launch(lambda: self.work(self.board), "work")
        self.face.pid = self.pid

    def launch(self, work: Callable[[], int], *part: object) -> int:
        """Start a process that does `work`, which is called `part` where it is spawned."""
        if self.forks:
            return process.fork(work)
        return process.spawn(self.name, self.board.fd, *part, fd=self.board.fd)

    def end_soon(self) -> None:
        """Let the child end after the job that it runs."""
        self.board.stop()
        self._wake()

    def tell_to_leave(self, running: Running, why: int) -> None:
        """Make the running job end, by an exception in it.  It is told once."""
        if self._told != running.began:
            self._told = running.began
            self.board.tell_to_leave(running, why)
            self._wake()

    def kill(
        self, verdict: Verdict, cause: str, *,
        was_stopped: bool = False, kinds: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Kill the child with all that its job started; `verdict` is for the job that it runs."""
        if self.death is None and self.pid:
            self.death = Death(
                worker=self.name, cause=cause, ran=self.board.running,
                verdict=verdict, was_stopped=was_stopped, kinds=kinds,
            )  # fmt: skip
            process.kill_group(self.pid)

    def note_stop(self) -> None:
        """Leave the marks that RQ's busy worker leaves when it is told to stop."""
        self.face._stop_requested = True
        self.face._shutdown_requested_date = clock.now()
        self.face.set_shutdown_requested_date()

    def _wake(self) -> None:
        if self.pid:
            process.tell(self.pid, process.LOOK)
