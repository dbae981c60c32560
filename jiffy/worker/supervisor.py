"""The process that watches over the children: it starts them, renews their leases, enforces limits,
rescues the jobs of the dead and answers signals.  It runs no job itself.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from redis import Redis
from redis.exceptions import ResponseError
from rq import worker_registration
from rq.defaults import DEFAULT_WORKER_TTL
from rq.worker import BaseWorker, WorkerStatus

from jiffy import clock, keys, log
from jiffy.worker import process
from jiffy.worker.board import Board, Running
from jiffy.worker.child import AGAIN, LOOK
from jiffy.worker.commands import Commands
from jiffy.worker.line import AWAY, Line
from jiffy.worker.rescue import SWEEP_EVERY_S, Death, Rescuer, Verdict
from jiffy.worker.settle import RareSettler
from jiffy.worker.signals import Signals
from jiffy.worker.turn import LEASE_S

TICK_S = 0.05
RENEW_EVERY_S = 3
DUE_EVERY_S = 1
LOOK_EVERY_S = 0.1
# A job that ignores its time limit is killed that much later.
KILL_AFTER_S = 5
# Before the grace is over, what still runs is asked to leave, then made to.
INTERRUPT_BEFORE_S, KILL_BEFORE_S = 3, 1
# With others behind it, a job that takes that long was not the blink that it was taken for.
BATCH_PATIENCE_S = 0.05
MOST_DUE = 1000
RESTART_AFTER_S = 1
_SIGN_OFF_S = 2


@dataclass(frozen=True)
class Limits:
    """What the supervisor enforces; None: no limit."""

    grace_s: float = 25
    job_memory_bytes: int | None = None
    child_memory_bytes: int | None = None


@dataclass
class Slot:
    """The place of one child, which RQ sees as one worker; the process in it may change."""

    face: BaseWorker
    work: Callable[[Board], int]
    board: Board = field(default_factory=Board)
    pid: int = 0  # 0: none now, one is to start at `starts_at`
    starts_at: float = 0
    death: Death | None = None  # why the supervisor is having it killed
    leaves: bool = False  # it is not started again
    is_recycled: bool = False  # it ends between two jobs and is started again
    told: float = 0  # the beginning of the job that was last told to leave
    released: int = -1  # the batch of which the rest was given back

    @property
    def name(self) -> str:
        return self.face.name


class Supervisor:
    """Runs children until they are done or a signal says stop."""

    def __init__(
        self, redis: Redis, slots: Sequence[Slot], queues: Sequence[str], limits: Limits,
        *, moves_due: bool,
    ) -> None:  # fmt: skip
        self._slots, self._all, self._limits = list(slots), tuple(slots), limits
        self._queue_keys = [keys.queue(name) for name in queues]
        self._default_timeout_s = slots[0].face.queue_class.DEFAULT_TIMEOUT
        self._redis = redis
        self._line = Line(redis)
        self._rescuer = Rescuer(self._line, RareSettler(slots[0].face, self._line))
        self._commands = Commands(redis, {slot.name: slot for slot in slots}, self)
        self._deaths: list[Death] = []
        self._stop_at: float | None = None
        self._timers = [
            _Timer(0, self._commands.hear),
            _Timer(RENEW_EVERY_S, self._renew),
            _Timer(SWEEP_EVERY_S, self._rescuer.sweep),
            _Timer(DUE_EVERY_S, self._watch_memory),
            _Timer(LOOK_EVERY_S, self._look),
        ]
        if moves_due:
            self._timers.append(_Timer(DUE_EVERY_S, self._move_due))

    def run(self) -> None:
        """Work until the last child has ended for good."""
        for slot in self._all:
            slot.face.register_birth()
            slot.face.set_state(WorkerStatus.STARTED)
        for timer in self._timers:
            timer.action()
        with Signals(self.stop, self.stop_now) as signals:
            for slot in self._all:
                self._start(slot)
            while self._slots:
                signals.wait(TICK_S)
                self._tick()
            self._sign_off()

    def stop(self, cause: str) -> None:
        """Take nothing more, let what runs go on for the grace, then end."""
        if self._stop_at is not None:
            return
        log.event("worker.stopping", cause=cause, grace_s=self._limits.grace_s)
        self._stop_at = clock.monotonic() + self._limits.grace_s
        for slot in list(self._slots):
            self.retire(slot)

    def stop_now(self, cause: str) -> None:
        """Stop without any grace; what runs goes back to the front."""
        self.stop(cause)
        log.event("worker.stopping", cause=f"{cause}, again", grace_s=0)
        self._stop_at = clock.monotonic()

    def retire(self, slot: Slot) -> None:
        """Let this child end after the job that it runs; the rest of its batch goes back now."""
        slot.leaves = True
        slot.board.stop()
        if slot.board.running is not None:
            self._ask(lambda: self._note_stop(slot))
        self._release(slot)
        if slot.pid:
            process.tell(slot.pid, LOOK)
        else:
            self._slots.remove(slot)

    def kill(self, slot: Slot, verdict: Verdict, cause: str, was_stopped: bool = False) -> None:
        """Kill a child with all that its job started; `verdict` is for the job that it runs."""
        if slot.death is None:
            running = slot.board.running
            slot.death = Death(
                worker=slot.name, cause=cause, ran=running, verdict=verdict, was_stopped=was_stopped
            )
            process.kill_group(slot.pid)

    def _tick(self) -> None:
        for slot in list(self._slots):
            self._watch(slot)
        self._ask(self._bury)
        now = clock.monotonic()
        for timer in self._timers:
            if timer.is_due(now):
                self._ask(timer.action)

    def _ask(self, action: Callable[[], None]) -> None:
        """Do something that needs Redis; where Redis is away, its next turn tries again."""
        try:
            action()
        except AWAY as error:
            self._line.note_away(error)
        except ResponseError as error:  # somebody else's data: one bad turn must not end us
            log.event("redis.refused", log.ERROR, reason=error)
        else:
            self._line.note_back()

    def _watch(self, slot: Slot) -> None:
        if not slot.pid:
            if clock.monotonic() >= slot.starts_at:
                self._start(slot)
            return
        status = process.ended(slot.pid)
        if status is not None:
            self._on_end(slot, status)
            return
        running = slot.board.running
        if running is not None:
            ran_s = clock.monotonic() - running.began
            if ran_s > BATCH_PATIENCE_S and slot.board.size - 1 > running.position:
                self._release(slot)
            if 0 < running.limit_s < ran_s:
                self._enforce_limit(slot, running, ran_s)
            if self._stop_at is not None:
                self._enforce_grace(slot, running, self._stop_at - clock.monotonic())

    def _release(self, slot: Slot) -> None:
        """Give back what the child took and has not begun."""
        slot.board.halt()
        running = slot.board.running  # asked after `halt`: now it begins nothing more
        if running is not None and slot.released != running.batch:
            self._ask(lambda: self._give_back(slot, running))

    def _give_back(self, slot: Slot, running: Running) -> None:
        arguments = [f"{running.batch:08x}", running.position]
        self._line.run("release", [keys.held(slot.name)], arguments)
        slot.released = running.batch

    def _enforce_limit(self, slot: Slot, running: Running, ran_s: float) -> None:
        self._tell_to_leave(slot, running, Board.TIMEOUT)
        if ran_s > running.limit_s + KILL_AFTER_S:
            reason = f"exceeded its limit of {running.limit_s:g} s, killed after {ran_s:.0f} s"
            self.kill(slot, Verdict.FAIL, reason)

    def _enforce_grace(self, slot: Slot, running: Running, left_s: float) -> None:
        if left_s <= KILL_BEFORE_S:
            self.kill(slot, Verdict.FREE, "the grace of a shutdown was over")
        elif left_s <= INTERRUPT_BEFORE_S:
            self._tell_to_leave(slot, running, Board.INTERRUPT)

    @staticmethod
    def _tell_to_leave(slot: Slot, running: Running, why: int) -> None:
        if slot.told != running.began:
            slot.told = running.began
            slot.board.tell_to_leave(running, why)
            process.tell(slot.pid, LOOK)

    def _start(self, slot: Slot) -> None:
        slot.board.reset()
        slot.death, slot.is_recycled, slot.released = None, False, -1
        slot.pid = process.fork(lambda: slot.work(slot.board))
        slot.face.pid = slot.pid
        self._ask(lambda: self._note_pid(slot))

    @staticmethod
    def _note_stop(slot: Slot) -> None:
        """Leave the marks that RQ's busy worker leaves when it is told to stop."""
        slot.face._stop_requested = True
        slot.face._shutdown_requested_date = clock.now()
        slot.face.set_shutdown_requested_date()

    def _note_pid(self, slot: Slot) -> None:
        self._redis.hset(slot.face.key, "pid", slot.pid)

    def _on_end(self, slot: Slot, status: int) -> None:
        running, death = slot.board.running, slot.death
        process.kill_group(slot.pid)  # what its job may have left behind
        is_clean = running is None and process.exit_code(status) in (0, AGAIN)
        if death is None and not is_clean:
            death = self._unexpected(slot, running, process.cause_of(status))
        if death is not None:
            self._deaths.append(death)
            self._ask(self._bury)
        is_over = process.exit_code(status) == 0 and death is None and not slot.is_recycled
        # One that died without a job's help would do so again at once.
        pause_s = RESTART_AFTER_S if death is not None and running is None else 0
        slot.pid, slot.starts_at = 0, clock.monotonic() + pause_s
        if slot.leaves or is_over:
            self._slots.remove(slot)
        elif not pause_s:
            self._start(slot)

    def _unexpected(self, slot: Slot, running: Running | None, cause: str) -> Death:
        log.event("worker.died", log.ERROR, worker=slot.name, pid=slot.pid, cause=cause)
        # Who dies in a shutdown was killed by it: the dyno's manager spares nobody.
        verdict = Verdict.COUNT if self._stop_at is None else Verdict.FREE
        return Death(worker=slot.name, cause=cause, ran=running, verdict=verdict)

    def _bury(self) -> None:
        """Rescue what dead children held.  Each stays on the list until Redis has heard of it."""
        while self._deaths:
            try:
                self._rescuer.rescue(self._deaths[0])
            except ResponseError as error:
                log.event("redis.refused", log.ERROR, reason=error)
            del self._deaths[0]

    def _renew(self) -> None:
        now_s = clock.wall()
        slots = {slot.name: slot for slot in self._slots}
        if not slots:
            return
        arguments = [LEASE_S, clock.rq_text(now_s), now_s, DEFAULT_WORKER_TTL + 60, *slots]
        (gone,) = self._line.run("renew", [keys.LEASES], arguments)
        for name in gone:
            self._on_lost_lease(slots[name.decode()])

    def _on_lost_lease(self, slot: Slot) -> None:
        """Somebody took this worker for dead (or Redis is new), and may run its job by now."""
        if slot.board.running is not None:
            self.kill(slot, Verdict.FREE, "its lease was lost")
        with self._redis.pipeline() as pipeline:
            pipeline.hset(slot.face.key, mapping=slot.face.serialize())
            worker_registration.register(slot.face, pipeline)
            pipeline.execute()

    def _move_due(self) -> None:
        arguments = [clock.rq_text(clock.wall()), MOST_DUE, self._default_timeout_s]
        self._line.run("due", self._queue_keys, arguments)

    def _watch_memory(self) -> None:
        """Kill a job that uses too much; replace a child that has grown, between two jobs."""
        most, recycle_at = self._limits.job_memory_bytes, self._limits.child_memory_bytes
        for slot in self._slots if most or recycle_at else ():
            used = process.rss_bytes(slot.pid)
            if most and used > most and slot.board.running:
                reason = f"used {used >> 20} MB of memory; its limit is {most >> 20} MB"
                self.kill(slot, Verdict.FAIL, reason)
            elif recycle_at and used > recycle_at:
                slot.is_recycled = True
                slot.board.stop()
                process.tell(slot.pid, LOOK)

    def _look(self) -> None:
        """RQ's own producers wake nobody: look at the queues for those who sleep."""
        if any(slot.board.is_asleep for slot in self._slots):
            self._line.run("look", self._queue_keys, [])

    def _sign_off(self) -> None:
        """Say goodbye; without Redis, for a moment only: then others notice by our leases."""
        deadline = clock.monotonic() + _SIGN_OFF_S
        while clock.monotonic() < deadline:
            with suppress(*AWAY):
                self._bury()
                self._commands.close()
                for slot in self._all:
                    self._redis.zrem(keys.LEASES, slot.name)
                    slot.face.register_death()
                return
            clock.pause(TICK_S)


@dataclass
class _Timer:
    every_s: float
    action: Callable[[], None]
    _next: float = 0

    def is_due(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + self.every_s
        return True
