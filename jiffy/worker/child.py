"""The process that runs jobs: take, run, settle, until it is told to stop."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from rq.exceptions import DeserializationError
from rq.timeouts import JobTimeoutException

from jiffy import clock, log
from jiffy.worker.board import Board
from jiffy.worker.outcome import Failed, Finished, Outcome, Returned, Taken, func_name_of
from jiffy.worker.pace import Pace
from jiffy.worker.run import Interrupted, Runner
from jiffy.worker.settle import RareSettler
from jiffy.worker.turn import Turns

# The signal that makes a child look at the board: one that jobs and their libraries leave alone.
LOOK = signal.SIGRTMIN + 3
# The exit code of a child that is to be started again.
AGAIN = 64
WAIT_S = 5
SUSPENDED_WAIT_S = 1


class _Stop(BaseException):
    """The wait for work ends, since this process does."""


@dataclass
class Stint:
    """How long to work: all of it is optional, and RQ's words (`Worker.work`)."""

    burst: bool = False
    max_jobs: int | None = None
    max_idle_s: float | None = None
    jobs_per_child: int | None = None

    def jobs_left(self, done: int) -> int:
        """How many more jobs this child may take after `done` of them."""
        limits = [limit for limit in (self.max_jobs, self.jobs_per_child) if limit is not None]
        return max(0, min(limits) - done) if limits else 1 << 30


class Child:
    """One worker's loop.  `turns`, `runner` and `rare` are its three verbs."""

    def __init__(
        self, turns: Turns, runner: Runner, rare: RareSettler, board: Board, stint: Stint,
        pace: Pace, reorder: Callable[[str], list[str]], maintain: Callable[[], None],
    ) -> None:  # fmt: skip
        self._turns, self._runner, self._rare = turns, runner, rare
        self._board, self._stint, self._pace = board, stint, pace
        self._reorder, self._maintain = reorder, maintain
        self._finished: list[Finished] = []
        self._done = 0
        self._waiting = self._stopping = False
        self.is_worn = False

    def work(self) -> int:
        """Work until the stint is over; return how many jobs were done."""
        signal.signal(LOOK, self._look)
        if self._board.must_stop:  # told so before it could hear
            return 0
        idle_since = clock.monotonic()
        while not self._stopping:
            self._maintain()
            want = self._want()
            batch = self._take(want)
            if batch:
                self._run_all(batch)
                idle_since = clock.monotonic()
                if self._stint.burst or len(batch) == want:
                    continue  # to settle these and take the next in one exchange
            if self._is_over(idle_since):
                break
        self._settle()
        return self._done

    def _is_over(self, idle_since: float) -> bool:
        """Nothing to take: wait for more, or say that the stint is over."""
        stint = self._stint
        if not stint.jobs_left(self._done):
            self.is_worn = stint.max_jobs is None or self._done < stint.max_jobs
            return True
        if stint.burst:
            return True
        wait_s: float = WAIT_S
        if stint.max_idle_s is not None:
            wait_s = min(wait_s, stint.max_idle_s - (clock.monotonic() - idle_since))
            if wait_s <= 0:
                return True
        self._wait(wait_s)
        return False

    def _want(self) -> int:
        return min(self._pace.want, self._stint.jobs_left(self._done))

    def _take(self, want: int) -> list[Taken]:
        """Settle what is finished and take more, in one round trip."""
        if self._stopping or not want:
            return []
        taken, rare, suspended = self._turns.take(want, self._finished)
        self._settled(rare)
        if rare and not taken:  # their dependents may be waiting by now
            taken, _, suspended = self._turns.take(want)
        self._hold(taken)
        if suspended:
            self._rest()
        elif taken:
            self._turns.names = self._reorder(taken[-1].queue)
        return taken

    def _hold(self, taken: Sequence[Taken]) -> None:
        self._board.hold(len(taken), taken[0].batch if taken else 0)

    def _rest(self) -> None:
        """Workers are suspended: end in burst mode, else ask again in a while."""
        if self._stint.burst:
            self._stopping = True
        else:
            clock.pause(SUSPENDED_WAIT_S)

    def _run_all(self, batch: list[Taken]) -> None:
        for position, taken in enumerate(batch):
            call = self._read(taken)
            if call is None:
                continue
            func_name = func_name_of(call)
            if len(batch) > 1 and not self._pace.is_quick(func_name):
                self._run_alone(position, taken, call)
                return
            if not self._run_one(position, taken, call):
                return

    def _read(self, taken: Taken) -> object:
        """What the job calls; None if it cannot be read, and is failed with the reason."""
        if taken.kind == "corrupt":
            reason = "This job's data in Redis is incomplete or of a wrong kind: it cannot be run."
        else:
            try:
                call = self._runner.call_of(taken)
                name, _, args, kwargs = call
                if isinstance(name, str) and args is not None and kwargs is not None:
                    return call
                reason = "This job's data is not a function's name and its arguments."
            except DeserializationError as error:
                reason = f"{error}"
            except (TypeError, ValueError) as error:
                reason = f"This job's data is not a function's name and its arguments ({error})."
        self._rare.fail_unread(taken, reason)
        log.event("job.failed", log.ERROR, job=taken.job_id, queue=taken.queue, reason=reason)
        return None

    def _run_alone(self, position: int, taken: Taken, call: object) -> None:
        """Nothing may wait for what may be slow: the rest goes back before it begins."""
        # Said to begin before it is kept: from then on the supervisor does not give it back.
        if self._board.begin(position, taken.timeout_s):
            self._settle(keep=[taken])
            self._run_one(0, taken, call)
        else:
            self._board.end()

    def _run_one(self, position: int, taken: Taken, call: object) -> bool:
        """Run one job; False if it must not begin, or if this process must stop."""
        try:
            if not self._board.begin(position, taken.timeout_s):
                self._board.end()
                return False
            outcome = self._runner.run(taken, call)
        except Interrupted:  # just before the job's first line, or just after its last
            now_s = clock.wall()
            outcome = Returned(taken, func_name_of(call), now_s, now_s)
        except JobTimeoutException as error:
            now_s = clock.wall()
            outcome = Failed(taken, func_name_of(call), now_s, now_s, f"{error}")
        self._board.end()
        self._note(outcome)
        return not isinstance(outcome, Returned)

    def _note(self, outcome: Outcome) -> None:
        took_s = outcome.ended_s - outcome.started_s
        self._pace.learn(outcome.func_name, took_s)
        self._done += 1
        log.job(
            f"job.{type(outcome).__name__.lower()}",
            job=outcome.taken.job_id,
            func=outcome.func_name,
            queue=outcome.taken.queue,
            took_ms=f"{took_s * 1000:.1f}",
        )
        if isinstance(outcome, Finished):
            if outcome.job is None:
                self._finished.append(outcome)
            else:
                self._rare.settle(outcome)
        elif isinstance(outcome, Returned):
            self._stopping = True
            self._rare.fail_if_it_must_not_repeat(outcome)
        else:
            self._rare.settle(outcome)

    def _settle(self, keep: Sequence[Taken] = ()) -> None:
        _, rare, _ = self._turns.take(0, self._finished, keep)
        self._settled(rare)
        if rare:  # it held them until now
            self._turns.take(0, keep=keep)
        self._hold(keep)

    def _settled(self, rare: list[Finished]) -> None:
        self._finished.clear()
        log.flush()
        for outcome in rare:
            self._rare.settle(outcome)

    def _wait(self, wait_s: float) -> None:
        self._board.sleep(True)
        self._waiting = True
        try:
            if not self._stopping:
                self._settled(self._turns.settle_and_wait(self._finished, wait_s))
        except _Stop:
            pass
        finally:
            self._waiting = False
            self._board.sleep(False)

    def _look(self, signum: int, frame: FrameType | None) -> None:
        """The supervisor wants something: it stands on the board."""
        why = self._board.must_leave
        if why == Board.TIMEOUT:
            limit_s = self._board.running.limit_s if self._board.running else 0
            raise JobTimeoutException(f"Task exceeded maximum timeout value ({limit_s:g} seconds)")
        if why == Board.INTERRUPT:
            raise Interrupted
        if self._board.must_stop:
            self.stop()

    def stop(self) -> None:
        """End after the job that runs; to be called from a signal handler."""
        self._stopping = True
        if self._waiting:
            raise _Stop
