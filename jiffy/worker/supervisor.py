"""The process that watches over the children: it starts them, renews their leases, enforces limits,
rescues the jobs of the dead and answers signals.  It runs no job itself.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from jiffy import clock, keys, log
from jiffy.connection import is_away
from jiffy.worker import joins, overdue, process
from jiffy.worker.board import Running
from jiffy.worker.child import AGAIN
from jiffy.worker.commands import Commands
from jiffy.worker.companion import Companion
from jiffy.worker.leases import RENEW_EVERY_S, Leases
from jiffy.worker.limits import Limits, enforce_grace, enforce_time
from jiffy.worker.line import Line
from jiffy.worker.rescue import SWEEP_EVERY_S, Death, Rescuer, Verdict
from jiffy.worker.settle import RareSettler
from jiffy.worker.signals import Signals
from jiffy.worker.slot import Slot
from jiffy.worker.turn import settle_for

TICK_S, IDLE_TICK_S = 0.05, 0.1
LOOK_EVERY_S = HEAR_EVERY_S = 0.1
DUE_EVERY_S = MEMORY_EVERY_S = 1
MOST_DUE = 1000
# With others behind it, a job that takes that long was not the blink that it was taken for.
BATCH_PATIENCE_S = 0.05
# One that dies without a job's help would do so again at once.
RESTART_AFTER_S = 1
_SIGN_OFF_S = 2


class Supervisor:
    """Runs children until they are done or a signal says stop."""

    def __init__(
        self, redis: Redis, slots: Sequence[Slot], queues: Sequence[str], limits: Limits,
        *, moves_due: bool, companion: Companion | None = None,
    ) -> None:  # fmt: skip
        self._redis, self._slots, self._limits = redis, list(slots), limits
        self._companion = companion
        self._queue_keys = [keys.queue(name) for name in queues]
        self._default_timeout_s = slots[0].face.queue_class.DEFAULT_TIMEOUT
        self._line = Line(redis)
        self._leases = Leases(redis, self._line, slots)
        self._rescuer = Rescuer(self._line, RareSettler(slots[0].face, self._line))
        self._commands = Commands(redis, slots, self.retire)
        self._noted: list[tuple[str, str]] = []  # outcomes of children that are gone
        self._deaths: list[Death] = []
        self._left: list[Slot] = []
        self._stop_at: float | None = None
        self._moves_due = moves_due
        self._moves = _Timer(DUE_EVERY_S, self._move_on)
        self._timers = [
            _Timer(HEAR_EVERY_S, self._commands.hear),
            _Timer(RENEW_EVERY_S, self._leases.renew),
            _Timer(SWEEP_EVERY_S, self._rescuer.sweep),
            _Timer(MEMORY_EVERY_S, self._watch_memory),
            _Timer(LOOK_EVERY_S, self._look),
            self._moves,
        ]

    def run(self) -> None:
        """Work until the last child has ended for good."""
        self._leases.register()
        for timer in self._timers:
            timer.action()
        with Signals(self.stop, self.stop_now) as signals:
            while self._slots:
                self._tick()
                is_busy = any(slot.board.running for slot in self._slots)
                signals.wait(TICK_S if is_busy else IDLE_TICK_S)
            self._sign_off()
        if self._companion:
            self._companion.end()

    def stop(self, cause: str) -> None:
        """Take nothing more, let what runs go on for the grace, then end."""
        if self._stop_at is not None:
            return
        log.event("worker.stopping", cause=cause, grace_s=self._limits.grace_s)
        self._stop_at = clock.monotonic() + self._limits.grace_s
        if self._companion:
            self._companion.end_soon()
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
        if not slot.pid:
            self._remove(slot)
            return
        slot.end_soon()
        if slot.board.running is not None:
            self._ask(slot.note_stop)
            self._release(slot)

    def _tick(self) -> None:
        if self._companion:
            self._companion.watch()
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
        except RedisError as error:
            if is_away(error):
                self._line.note_away(error)
            else:  # somebody else's data: one bad turn must not end us
                log.event("redis.refused", log.ERROR, reason=error)

    def _watch(self, slot: Slot) -> None:
        if not slot.pid:
            if clock.monotonic() >= slot.starts_at:
                self._start(slot)
            return
        status = process.ended(slot.pid)
        if status is not None:
            self._on_end(slot, status)
            return
        if (running := slot.board.running) is not None:
            self._watch_job(slot, running)
        if self._stop_at is not None:
            enforce_grace(slot, self._stop_at - clock.monotonic())

    def _watch_job(self, slot: Slot, running: Running) -> None:
        ran_s = clock.monotonic() - running.began
        if ran_s > BATCH_PATIENCE_S and slot.released != running.batch:
            self._release(slot)
        enforce_time(slot, running, ran_s)

    def _release(self, slot: Slot) -> None:
        """Give back what the child took and has not begun, and settle what it has finished."""
        slot.board.halt()
        running = slot.board.running  # asked after `halt`: now it begins nothing more
        if running is not None and slot.released != running.batch:
            self._ask(lambda: self._give_back(slot, running))

    def _give_back(self, slot: Slot, running: Running) -> None:
        arguments = [f"{running.batch:08x}", running.position]
        if running.position < slot.board.last:
            names = [keys.held(slot.name), keys.executions(slot.name)]
            self._line.run("release", names, arguments)
        noted = slot.board.noted
        if noted and slot.board.running == running:  # else the child has gone on, and settles
            settle_for(self._line, slot.name, noted)
        slot.released = running.batch

    def _start(self, slot: Slot) -> None:
        slot.start()
        self._ask(lambda: self._note_pid(slot))

    def _note_pid(self, slot: Slot) -> None:
        self._redis.hset(slot.face.key, "pid", slot.pid)

    def _on_end(self, slot: Slot, status: int) -> None:
        running, death, code = slot.board.running, slot.death, process.exit_code(status)
        if noted := slot.board.noted:
            self._noted.append((slot.name, noted))
        process.kill_group(slot.pid)  # what its job may have left behind
        if death is None and not (running is None and code in (0, AGAIN)):
            death = self._unexpected(slot, running, process.cause_of(status))
        if death is not None:
            self._deaths.append(death)
            self._ask(self._bury)
        is_over = code == 0 and death is None and not slot.is_recycled
        if slot.leaves or is_over:
            self._remove(slot)
            return
        slot.pid, slot.starts_at = 0, clock.monotonic()
        if death is not None and running is None:
            slot.starts_at += RESTART_AFTER_S
        self._watch(slot)

    def _remove(self, slot: Slot) -> None:
        self._slots.remove(slot)
        self._left.append(slot)

    def _unexpected(self, slot: Slot, running: Running | None, cause: str) -> Death:
        log.event("worker.died", log.ERROR, worker=slot.name, pid=slot.pid, cause=cause)
        # Who dies in a shutdown was killed by it: the dyno's manager spares nobody.
        verdict = Verdict.COUNT if self._stop_at is None else Verdict.FREE
        return Death(worker=slot.name, cause=cause, ran=running, verdict=verdict)

    def _bury(self) -> None:
        """Settle what dead children had finished, rescue what they held, let go of leases.

        Each stays on its list until Redis has heard of it; if it never does, others rescue.
        """
        while self._noted:
            settle_for(self._line, *self._noted[0])
            del self._noted[0]
        while self._deaths:
            try:
                self._rescuer.rescue(self._deaths[0])
            except ResponseError as error:
                if is_away(error):
                    raise
                log.event("redis.refused", log.ERROR, reason=error)
            del self._deaths[0]
        while self._left:
            self._leases.give_up(self._left[0])
            del self._left[0]

    def _watch_memory(self) -> None:
        for slot in self._slots:
            self._limits.enforce_memory(slot)

    def _move_on(self) -> None:
        """See to jobs whose time has come, or is over, and to those that wait for others."""
        moves = [self._line.script("ready", self._queue_keys, [MOST_DUE])]
        if self._moves_due:
            arguments = [MOST_DUE, self._default_timeout_s]
            moves.append(self._line.script("due", self._queue_keys, arguments))
        found, canceled, *moved = self._line.exchange(joins.look(), overdue.look(), *moves)
        if sum(moved) >= MOST_DUE:  # there may be more
            self._moves.again()
        overdue.tell(canceled)
        joins.tell(self._line, found)

    def _look(self) -> None:
        """RQ's own producers wake nobody: look at the queues for those who sleep."""
        if any(slot.board.is_asleep for slot in self._slots):
            self._line.run("look", self._queue_keys, [])

    def _sign_off(self) -> None:
        """Say goodbye; without Redis, for a moment only: then others notice by our leases."""
        deadline = clock.monotonic() + _SIGN_OFF_S
        while clock.monotonic() < deadline:
            with suppress(RedisError):
                self._bury()
                self._commands.close()
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

    def again(self) -> None:
        """Be due at once."""
        self._next = 0
