"""The process that runs jobs: take, run, settle, until it is told to stop."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from rq.exceptions import DeserializationError
from rq.timeouts import JobTimeoutException

from jiffy import clock, log
from jiffy.retry import names_of
from jiffy.worker.board import Board
from jiffy.worker.outcome import Failed, Finished, Outcome, Returned, Taken, func_name_of
from jiffy.worker.pace import Pace
from jiffy.worker.process import LOOK
from jiffy.worker.run import Interrupted, Runner
from jiffy.worker.settle import RareSettler
from jiffy.worker.turn import Turns

# The exit code of a child that is to be started again.
AGAIN = 64
WAIT_S = 5
SHORTEST_WAIT_S = 0.01  # to BLPOP, 0 is for ever
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

    def is_worn_by(self, done: int) -> bool:
        """Whether a child that has done so many is to be replaced by a fresh one."""
        is_over = self.max_jobs is not None and done >= self.max_jobs
        return not is_over and self.jobs_per_child is not None and done >= self.jobs_per_child


class Child:
    """One worker's loop.  `turns`, `runner` and `rare` are its three verbs."""

    def __init__(
        self, turns: Turns, runner: Runner, rare: RareSettler, board: Board, stint: Stint,
        pace: Pace, reorder: Callable[[str], list[str]], maintain: Callable[[], None],
    ) -> None:  # fmt: skip
        self._turns, self._runner, self._rare = turns, runner, rare
        self._board, self._stint, self._pace = board, stint, pace
        self._reorder, self._maintain = reorder, maintain
        self._pid = os.getpid()
        self._finished: list[Finished] = []
        self._done = 0
        self._waiting = self._stopping = False
        self.is_worn = False

    def work(self) -> int:
        """Work until the stint is over; return how many jobs were done."""
        signal.signal(LOOK, self._look)
        if self._board.must_stop:  # told so before it could hear
            return 0
        idle_since, wait_s = clock.monotonic(), 0.0
        while not self._stopping and (want := self._want()):
            self._maintain()
            batch = self._take(want, wait_s)
            if batch:
                self._run_all(batch)
                idle_since = clock.monotonic()
            elif self._is_over(idle_since):
                break
            # Where there was enough there may be more.
            wait_s = 0 if len(batch) == want else self._wait_s(idle_since)
        self.is_worn = not self._stopping and self._stint.is_worn_by(self._done)
        self._settle()
        return self._done

    def _want(self) -> int:
        return min(self._pace.want, self._stint.jobs_left(self._done))

    def _is_over(self, idle_since: float) -> bool:
        """Whether a worker that found nothing to do ends."""
        longest_s = self._stint.max_idle_s
        is_bored = longest_s is not None and clock.monotonic() - idle_since >= longest_s
        return self._stint.burst or is_bored

    def _wait_s(self, idle_since: float) -> float:
        """How long to wait for work; 0: not at all."""
        if self._stint.burst:
            return 0
        if self._stint.max_idle_s is None:
            return WAIT_S
        left_s = self._stint.max_idle_s - (clock.monotonic() - idle_since)
        return min(WAIT_S, max(left_s, SHORTEST_WAIT_S))

    def _take(self, want: int, wait_s: float) -> list[Taken]:
        """Settle what is finished, wait for work if asked to, and take: in one round trip."""
        if wait_s:
            log.flush()
            taken, rare, suspended = self._wait_and_take(want, wait_s)
        else:
            taken, rare, suspended = self._turns.take(want, self._finished)
        if self._stopping:  # nobody knows how far it came: the last turn settles all of it again
            return []
        self._settled(rare)
        if rare and not taken:  # their dependents may be waiting by now
            taken, _, suspended = self._turns.take(want)
        self._hold(taken)
        if suspended:
            self._rest()
        elif taken:
            self._turns.names = self._reorder(taken[-1].queue)
        return taken

    def _wait_and_take(self, want: int, wait_s: float) -> tuple[list[Taken], list[Finished], bool]:
        self._board.sleep(True)
        self._waiting = True
        try:
            if not self._stopping:
                return self._turns.wait_and_take(want, self._finished, wait_s)
        except _Stop:
            pass
        finally:
            self._waiting = False
            self._board.sleep(False)
        return [], [], False

    def _hold(self, taken: Sequence[Taken]) -> None:
        last = taken[-1] if taken else None
        self._board.hold(last.batch if last else 0, last.position if last else 0)

    def _rest(self) -> None:
        """Workers are suspended: end in burst mode, else ask again in a while."""
        if self._stint.burst:
            self._stopping = True
        else:
            clock.pause(SUSPENDED_WAIT_S)

    def _run_all(self, batch: list[Taken]) -> None:
        for taken in batch:
            call = self._read(taken)
            if call is None:
                continue
            func_name = func_name_of(call)
            if len(batch) > 1 and not self._pace.is_quick(func_name):
                self._run_alone(taken, call)
                return
            if not self._run_one(taken, call):
                return

    def _read(self, taken: Taken) -> object:
        """What the job calls; None if it is not to be run: then it is settled, with the reason."""
        if taken.kind == "expired":
            reason = taken.data.decode()
            log.job("job.expired", job=taken.job_id, queue=taken.queue, reason=reason)
            return None
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

    def _run_alone(self, taken: Taken, call: object) -> None:
        """Nothing may wait for what may be slow: the rest goes back before it begins."""
        # Said to begin before it is kept: from then on the supervisor does not give it back.
        if self._board.begin(taken.position, taken.timeout_s):
            self._settle(keep=[taken])
            self._run_one(taken, call)
        else:
            self._board.end()

    def _run_one(self, taken: Taken, call: object) -> bool:
        """Run one job; False if it must not begin, or if this process must stop."""
        try:
            if not self._board.begin(taken.position, taken.timeout_s):
                self._board.end()
                return False
            outcome = self._runner.run(taken, call)
        except Interrupted:  # just before the job's first line, or just after its last
            now_s = clock.wall()
            outcome = Returned(taken, func_name_of(call), now_s, now_s)
        except JobTimeoutException as error:
            now_s = clock.wall()
            outcome = Failed(
                taken, func_name_of(call), now_s, now_s, f"{error}", kinds=names_of(type(error))
            )
        self._board.end()
        self._tidy_up_after(outcome)
        self._note(outcome)
        return not isinstance(outcome, Returned)

    def _tidy_up_after(self, outcome: Outcome) -> None:
        """End what a job has left in this process that would harm the next one."""
        if os.getpid() != self._pid:  # a copy that the job forked has come back in its stead
            os._exit(0 if isinstance(outcome, Finished) else 1)
        signal.alarm(0)

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
                self._board.note(outcome.row)
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
