"""A child as its supervisor sees it: held to limits of time and memory, ended if it hangs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jiffy import clock, log, os_compat
from jiffy.producer.retry import TIMED_OUT
from jiffy.settings import settings
from jiffy.worker import preload, process
from jiffy.worker.recovery import Death, Handling
from jiffy.worker.shared_memory import Board, Running

if TYPE_CHECKING:
    from jiffy.worker.rq_worker import Worker

# A job that ignores its time limit, or that it was stopped, is killed that much later.
KILL_AFTER_S = 5
# Some 20 s: a child may wait for work in the same exchange, and much may come over a slow link.
STUCK_RENEWALS = 6
MB = 1 << 20
STOPPED = "Job stopped by user, work-horse terminated."  # RQ's words


@dataclass
class ChildProcess:
    """A child as its supervisor sees it, and RQ as one worker; the process in it may change.

    It holds a running job to its limits.
    """

    rq_worker: "Worker"
    work: Callable[[Board, str], int]  # given the token of its executions
    board: Board = field(default_factory=Board)
    forks: bool = True  # or else its processes run this program from its beginning
    hears_stops: bool = False  # before a job that is stopped is killed, its hooks are left
    pid: int = 0  # 0: none now, one is to start at `starts_at`
    starts_at: float = 0
    death: Death | None = None  # why it is being killed, or how it died, until Redis knows of it
    must_leave: bool = False  # it is not started again
    is_replaced: bool = False  # another worker has its name
    is_quiet: bool = False  # it is not started until a command says so; its worker stays
    is_shown: bool = False  # RQ knows of it
    requeued: int = -1  # the batch of which the rest was requeued
    # Executions to stop by command, perhaps before they begin; when they are killed (0: not begun).
    stopping: dict[str, float] = field(default_factory=dict)
    processes: int = 0  # how many it has had
    _seen: tuple[int, int, int] = (0, 0, 0)  # see `enforce_progress`

    @property
    def name(self) -> str:
        return self.rq_worker.name

    @property
    def token(self) -> str:
        """Prefix of its process' executions; those of the next process sort after it."""
        return f"{self.rq_worker.token}{self.processes:08x}"

    def start(self) -> None:
        """Start the child.  Raises OSError."""
        if not self.forks and self.board.fd == -1:
            self.board = Board.in_file()
        self.board.reset()
        self.requeued, self._seen = -1, (0, 0, 0)
        self.stopping.clear()
        self.processes += 1
        if self.forks:
            self.pid = process.fork(lambda: self.work(self.board, self.token))
        else:
            fd = self.board.fd
            self.pid = process.spawn(preload.ENGINE, self.name, fd, self.token, fds=[fd])
        self.rq_worker.pid = self.pid

    def execution_of(self, running: Running | None) -> str:
        """The id of the execution that the child runs; "" for none."""
        return f"{self.token}{running.batch:08x}{running.position:08x}" if running else ""

    def retire(self) -> None:
        """Let the child end after the job that it runs; another takes its place unless it
        `must_leave`.
        """
        self.board.retire(for_good=self.must_leave)
        self._wake()

    def interrupt(self, running: Running, why: int) -> None:
        """Make the running job end, by one exception in it."""
        if self.board.interrupt(running, why):
            self._wake()

    def stop(self, execution: str) -> None:
        """Stop a job by command, as soon as it runs; see `hears_stops`."""
        self.stopping.setdefault(execution, 0)  # a second command kills it no later
        self.enforce_stop()

    def enforce_stop(self, *, has_ended: bool = False) -> None:
        """Kill the job that was stopped and goes on; or note that its process has ended of that."""
        running = self.board.running
        execution = self.execution_of(running)
        if running is None or execution not in self.stopping:
            return
        if not self.stopping[execution]:
            patience_s = KILL_AFTER_S if self.hears_stops else 0
            self.stopping[execution] = clock.monotonic() + patience_s
        if self.hears_stops:
            self.interrupt(running, Board.STOP)
        if has_ended or clock.monotonic() >= self.stopping[execution]:
            self.kill(Handling.STOP, STOPPED, running)

    def enforce_time(self, running: Running, *, has_ended: bool = False) -> None:
        """Raise JobTimeoutException in a job over its limit; kill it if that does not help, or note
        that its process has ended of that.
        """
        ran_s = clock.monotonic() - running.began
        if 0 < running.limit_s < ran_s:
            self.interrupt(running, Board.TIMEOUT)
            if has_ended or ran_s > running.limit_s + KILL_AFTER_S:
                reason = f"exceeded its limit of {running.limit_s:g} s, killed after {ran_s:.0f} s"
                self.kill(Handling.FAIL, reason, running, TIMED_OUT)

    def enforce_progress(self) -> None:
        """Kill a child that runs no job and claims none: something that a job has left may hold a
        lock that it needs, or have stopped it.  To be called after each renewal of its lease:
        Redis is there.
        """
        numbers = self.board.numbers
        batch, noted_bytes, renewals = self._seen
        if numbers.position >= 0 or (batch, noted_bytes) != (numbers.batch, numbers.noted_bytes):
            renewals = 0
        self._seen = numbers.batch, numbers.noted_bytes, renewals + 1
        if self.pid and numbers.batch and renewals >= STUCK_RENEWALS:
            log.event("child.stuck", log.WARNING, worker=self.name, pid=self.pid)
            self.kill(Handling.REQUEUE, "it was stuck behind its last job")

    def enforce_memory(self) -> None:
        """Kill a job that uses too much; replace a child that has grown, between two jobs."""
        most_mb, recycle_at_mb = settings().job_memory_mb, settings().max_child_mb
        running = self.board.running
        used = self.memory_bytes if most_mb or recycle_at_mb else 0
        added_mb = (used - self.board.numbers.memory_bytes) / MB
        if most_mb and added_mb > most_mb and running:
            reason = f"used {added_mb:.0f} MB of memory; its limit is {most_mb} MB"
            self.kill(Handling.FAIL, reason, running)
        elif recycle_at_mb and used > recycle_at_mb * MB:
            self.retire()

    @property
    def memory_bytes(self) -> int:
        """What the process that runs its jobs has in RAM."""
        return os_compat.memory_bytes(self.board.numbers.fork or self.pid)

    def kill(
        self, handling: Handling, cause: str, running: Running | None = None,
        error_names: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Kill the child with all that its job started.

        `running` is the job that it is killed for, if it still is; `handling` is for that one.
        """
        execution = self.execution_of(running)
        if self.pid and execution == self.execution_of(running and self.board.running):
            self.death = self.death or Death(self.name, cause, execution, handling, error_names)
            self.kill_groups()

    def kill_groups(self) -> None:
        """Kill the child, a fork of it that runs its job, and all that the job started."""
        for pid in (self.pid, self.board.numbers.fork):
            if pid > 1:
                process.kill_group(pid)

    def _wake(self) -> None:
        if self.pid:
            process.send(self.pid, process.CHECK_BOARD)
