"""The process that runs jobs: claim, run, finish, until it retires.

To retire is to end after the job that runs.  What became of a job is noted on the board, where the
supervisor finds it if this process dies, and is sent with the next claim.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType

from redis.exceptions import ResponseError
from rq.exceptions import DeserializationError
from rq.timeouts import JobTimeoutException

from jiffy import clock, keys, log, os_compat, rq_compat
from jiffy.worker import finish, followups, joblog, process
from jiffy.worker.claim import LEASE_S, ClaimedJob, Claimer, ClaimReply, Pace, requeue_command
from jiffy.worker.finish import Outcome
from jiffy.worker.process import CHECK_BOARD
from jiffy.worker.process_state import WEIGHED_S, LeftMemory, ProcessState
from jiffy.worker.run import Interrupted, Runner, Stopped, func_name_of
from jiffy.worker.shared_memory import Board

# The exit codes of a child that is to be started again, and of one whose worker ends with it.  Not
# 0, which a thread that a job has left may end the process with.
AGAIN, LEAVES = 64, 66
# That of a fork whose job must not begin.
_NOT_BEGUN = 71
_ISOLATED = "isolated"  # the name of all such jobs, to the pace
WAIT_S = 5
SHORTEST_WAIT_S = 0.01  # 0 would make BLPOP wait without end
SUSPENDED_WAIT_S = 1
LOOK_EVERY_S = 1


class _Retire(BaseException):
    """The wait for work ends, since this process does."""


@dataclass
class RetireWhen:
    """When a worker ends by itself; all optional, in the words of RQ's `Worker.work`."""

    burst: bool = False
    max_jobs: int | None = None
    max_idle_s: float | None = None
    jobs_per_child: int | None = None

    def wait_s(self, idle_s: float) -> float | None:
        """How long a worker that has been idle for so long waits for work; None: it ends."""
        left_s = WAIT_S if self.max_idle_s is None else min(WAIT_S, self.max_idle_s - idle_s)
        return None if self.burst or left_s <= 0 else max(left_s, SHORTEST_WAIT_S)

    def jobs_left(self, done: int) -> int:
        """How many more jobs this child may claim after `done` of them."""
        limits = [limit for limit in (self.max_jobs, self.jobs_per_child) if limit is not None]
        return max(0, min(limits) - done) if limits else 1 << 30

    def is_worn_by(self, done: int) -> bool:
        """Whether a child that has done so many is to be replaced by a fresh one."""
        is_over = self.max_jobs is not None and done >= self.max_jobs
        return not is_over and self.jobs_per_child is not None and done >= self.jobs_per_child


class Child:
    """One worker's loop."""

    def __init__(
        self, claimer: Claimer, runner: Runner, retire_when: RetireWhen, pace: Pace,
        maintain: Callable[[], bool | None],
    ) -> None:  # fmt: skip
        self._claimer, self._runner, self._board = claimer, runner, runner.board
        self._retire_when, self._pace, self._maintain = retire_when, pace, maintain
        self._paused: frozenset[str] = frozenset()
        self._done = 0
        self._is_waiting = self._is_retiring = self._is_tidying = False
        self._last_id = ""  # of the newest job, until there is a full look after it
        self._look_at = 0.0
        self._is_fork = False  # this process ends after its job
        self._is_used = False  # a job has run in this process
        self._fork = 0  # the process in which an isolated job runs
        self.is_worn = False
        # What stands around the job of a fork (None: forks are unsafe); whether each job has one.
        self.around_fork: Callable[[], AbstractContextManager[None]] | None = None
        self.isolates_all = False

    def work(self) -> int:
        """Work until `retire_when` says so; return how many jobs were done."""
        # What is now is what the first job is to find, and the next ones, too.
        signal.signal(CHECK_BOARD, self._check_board)
        joblog.current.begin()
        self._state = ProcessState()
        self._runner.start(self._state.accept)
        self._memory = LeftMemory(self._board.numbers)
        if self._board.is_retiring:  # since before it could hear a signal
            return 0
        wait_s, idle_since = 0.0, clock.monotonic()
        while not self._is_retiring:
            want = min(self._pace.want, self._retire_when.jobs_left(self._done))
            claim = self._claim(want, wait_s)
            may_have_new = not claim.is_suspended and self._maintain()
            has_more = may_have_new or claim.has_more or claim.todo is not None
            self._run_all(claim)
            if claim.jobs or claim.todo:
                idle_since = clock.monotonic()
            longest_s = self._retire_when.wait_s(clock.monotonic() - idle_since)
            if not (has_more or claim.jobs or (want and longest_s)):
                break
            # Where there was enough there may be more.
            is_full = has_more or len(claim.jobs) == want > 0
            wait_s = 0 if is_full or longest_s is None else longest_s
        self.is_worn |= not self._is_retiring and self._retire_when.is_worn_by(self._done)
        if self._is_retiring or self._board.noted:
            self._finish(self._board.noted, keep=self._claimer.last_begun)
        # No batch any more, or `enforce_progress` would kill it while it leaves its hooks.
        self._board.hold(0, 0)
        return self._done

    def retire(self) -> None:
        """End after the job that runs; to be called from a signal handler."""
        self._is_retiring = True
        if self._is_waiting:
            raise _Retire

    def _claim(self, want: int, wait_s: float) -> ClaimReply:
        """Send the outcomes so far, wait for work up to `wait_s`, and claim: one round trip."""
        process.end_copy(self._runner.pid)
        log.flush()
        self._board.numbers.is_asleep = self._is_waiting = wait_s > 0
        asked_at = clock.monotonic()
        try:
            if wait_s and self._is_retiring:
                return ClaimReply([])
            plans = self._board.noted
            done = [finish.finish_command(self._claimer.name, plans)] if plans else []
            claim = self._claimer.claim(want, wait_s, before=done)
            if plans and not claim.counted:
                # Where a job has selected another database, what was claimed there goes back there:
                # `last_begun` is still of the batch before.
                self._finish(plans, keep=self._claimer.last_begun)
                claim = claim._replace(jobs=[], has_more=True)
        except _Retire:
            # How far it came is unknown: at its end, `work` sends all of it again.
            return ClaimReply([])
        finally:
            self._is_waiting = self._board.numbers.is_asleep = False
        self._paused = claim.paused
        # All outcomes are in Redis: where a failover has lost one, its job goes back to the queue.
        self._claimer.last_begun = ""
        last = claim.jobs[-1] if claim.jobs else None
        held = self._hold(claim.jobs, asked_at)
        if len(held) < len(claim.jobs):
            claim = claim._replace(jobs=held, has_more=True)
        if last:
            self._claimer.queues = rq_compat.queues_after(self._runner.rq_worker, last.queue)
        if claim.is_suspended and want and not self._retire_when.burst:
            clock.pause(SUSPENDED_WAIT_S)
            return claim._replace(has_more=True)
        return claim

    def _run_all(self, claim: ClaimReply) -> None:
        for job in claim.jobs:
            if self._is_retiring:
                break
            if job.kind == "expired":
                of = {"job": job.job_id, "queue": job.queue, "reason": job.data.decode()}
                log.job("job.expired", clock.wall(), **of)
                continue
            is_isolated = self.isolates_all or job.details.raw(keys.ISOLATE_FIELD)
            run = self._run_isolated if is_isolated and self._runner.is_watched else self._run_one
            if not run(job, is_last=job is claim.jobs[-1]):
                break
        if claim.todo:
            self._is_used = True
            self._runner.in_context(followups.do, claim.todo, self._runner)
            self._retire_for(self._state.restore(LOOK_EVERY_S), claim.todo.line)
        # Now and then, between batches: what has no sign.
        if self._last_id and clock.monotonic() > self._look_at:
            self._look_at = clock.monotonic() + LOOK_EVERY_S
            self._retire_for(self._state.look(), self._last_id)
            self._last_id = ""

    def _run_one(self, job: ClaimedJob, *, is_last: bool) -> bool:
        """Run and finish one job; return whether the next one of its batch may begin."""
        outcome, goes_on = Outcome(job, "?", clock.wall()), True
        self._is_used = True
        try:
            # On record before its first byte is read: if that kills this process, it counts.
            if not self._board.begin(job.position, job.timeout_s):
                return False
            before, self._claimer.last_begun = self._claimer.last_begun, job.execution
            call = self._runner.decode(job)
            outcome.func_name = func_name_of(call)
            if outcome.func_name in self._paused:
                outcome.status = "parked"
            else:
                if not self._pace.is_quick(outcome.func_name):
                    log.flush()
                    goes_on = is_last
                    if not (is_last or self._begin_alone(job)):
                        self._claimer.last_begun = before
                        return False
                self._runner.in_context(self._runner.run, outcome, call)
        except (DeserializationError, Interrupted, Stopped, JobTimeoutException) as error:
            self._is_tidying = True
            self._runner.note_error(outcome, error, in_its_code=False)
        # Nothing interrupts from here on: still on record, it counts if it kills this process.
        self._is_tidying = True
        if outcome.status == "stopped":  # the supervisor writes that when this process has ended
            process.leave(0)
        outcome.ended_s = outcome.ended_s or clock.wall()
        changed = self._tidy(outcome)
        self._note(outcome)  # in a log that no job has silenced
        self._retire_for(changed, job.job_id)
        return goes_on and not self._is_retiring

    def _begin_alone(self, job: ClaimedJob) -> bool:
        """Nothing may wait for what may be slow: send the outcomes, and let the rest go back."""
        self._board.end()  # its limit is not for how long Redis takes
        asked_at = clock.monotonic()
        self._finish(self._board.noted, keep=job.execution)
        still_held = self._hold([job], asked_at)
        return bool(still_held) and self._board.begin(job.position, job.timeout_s)

    def _hold(self, jobs: list[ClaimedJob], asked_at: float) -> list[ClaimedJob]:
        """Show the supervisor which jobs were held when Redis was asked; return those that are."""
        self._board.hold(self._claimer.batch, jobs[-1].position if jobs else 0)
        # Perhaps it was halted, and taken for dead.  From here on, its supervisor sees that.
        is_late = clock.monotonic() - asked_at > LEASE_S
        return self._claimer.still_held(jobs) if is_late else jobs

    def _tidy(self, outcome: Outcome) -> str:
        """Let the next job find this process as it was; return why it must be another one."""
        took_s = outcome.took_s
        is_weighed = took_s > WEIGHED_S
        if is_weighed:
            outcome.peak_bytes = os_compat.peak_bytes()
        if self._is_fork:
            self._state.restore_log()
            return ""
        return self._state.restore(took_s) or (self._memory.excess() if is_weighed else "")

    def _note(self, outcome: Outcome) -> None:
        """Note the outcome, which is sent with the next claim."""
        process.end_copy(self._runner.pid)  # a `__str__`, or an `__eq__`, may have made one
        if outcome.status != "parked":
            self._pace.learn(outcome.func_name, outcome.took_s)
            self._done += 1
            self._last_id = outcome.job.job_id
        if outcome.status == "requeued":
            self._is_retiring = True
        if not self._board.note(plan := finish.plan_for(outcome)):
            self._board.relimit(0)  # it stays on record until it is sent, however long that takes
            self._finish(self._board.noted)
            try:  # too large for the board: the supervisor could not finish it
                self._finish(plan)
            except ResponseError as error:  # Redis refuses it: the job has failed for that reason
                outcome.fail(f"{error}", may_retry=False)
                self._finish(finish.plan_for(outcome))
        self._board.end()
        self._is_tidying = False
        outcome.log()  # last: a thread that the job has left may hold a lock of the log

    def _finish(self, plans: bytes, keep: str | None = None) -> None:
        """Send all outcomes so far; with `keep`, requeue what is held beyond that execution."""
        link, name = self._runner.link, self._claimer.name
        commands = [finish.finish_command(name, plans)] if plans else []
        if keep is not None:
            commands.append(requeue_command(name, keep, self._claimer.token, self._claimer.batch))
        for _ in range(2):
            answers = link.insist(lambda: link.exchange(*commands))
            if not plans or answers[0]:
                break
            # None of them: a job may have selected another database on this connection.
            link.redis.connection_pool.disconnect(inuse_connections=False)
        self._board.numbers.noted_bytes = 0

    def _retire_for(self, reason: str, job_id: str) -> None:
        """Retire, to be started again, where there is a reason."""
        if not reason or self._is_retiring or self._is_fork:
            return
        if self._runner.is_watched:
            log.job("child.replaced", clock.wall(), reason=reason, job=job_id)
            self.is_worn = self._is_retiring = True
        else:
            self._state.accept()

    def _check_board(self, signum: int, frame: FrameType | None) -> None:
        """The supervisor wants something: it stands on the board."""
        if self._fork:
            process.send(self._fork, CHECK_BOARD)
            return
        why = 0 if self._is_tidying else self._board.interrupt_reason
        if why == Board.TIMEOUT:
            limit_s = self._board.running.limit_s if self._board.running else 0
            raise JobTimeoutException(f"Task exceeded maximum timeout value ({limit_s:g} seconds)")
        if why == Board.INTERRUPT:
            raise Interrupted
        if why == Board.STOP:
            raise Stopped
        if self._board.is_retiring:
            self.retire()

    # Isolated jobs

    def _run_isolated(self, job: ClaimedJob, *, is_last: bool) -> bool:
        """Run one job in a fork of this process, in which none has run.  Returns as `_run_one`."""
        if self._is_used:  # its successor claims the job again
            self._retire_for("the next job is isolated", job.job_id)
            return False
        if self.around_fork is None:
            self._run_one(job, is_last=is_last)
            self._retire_for("it has run an isolated job", job.job_id)
            return False
        if not (is_last or self._pace.is_quick(_ISOLATED)):
            self._finish(self._board.noted, keep=job.execution)
            is_last = True
        began_s = clock.monotonic()
        with process.deaf():
            self._fork = process.fork(lambda: self._work_as_fork(job))
        _, status = os.waitpid(self._fork, 0)
        process.kill_group(self._fork)  # what its job has left
        if self._board.running is not None or status not in (0, _NOT_BEGUN << 8):
            process.end_as(status)
        self._fork = 0
        self._board.numbers.fork = 0
        self._is_retiring |= self._board.is_retiring
        if status:
            return False
        self._claimer.last_begun = job.execution
        self._runner.foresee(job)
        self._done += 1
        self._pace.learn(_ISOLATED, clock.monotonic() - began_s)
        return not is_last and not self._is_retiring

    def _work_as_fork(self, job: ClaimedJob) -> int:
        """Run one job in this process, and nothing else; return its exit code."""
        assert self.around_fork is not None  # or there were no fork
        signal.signal(CHECK_BOARD, self._check_board)
        self._fork, self._is_fork, self._runner.pid = 0, True, os.getpid()
        self._board.numbers.fork = self._runner.pid
        process.hear()
        # As a child that has not claimed: it imports, and enters hooks, for as long as that takes.
        batch, self._board.numbers.batch = self._board.numbers.batch, 0
        with self.around_fork():
            self._board.numbers.batch = batch
            self._runner.start(lambda: None)
            self._memory.measure()
            self._run_one(job, is_last=True)
        return 0 if self._claimer.last_begun == job.execution else _NOT_BEGUN
