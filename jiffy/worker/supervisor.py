"""The process that watches over the children: it starts them, renews their leases, enforces limits,
recovers the jobs of dead ones and answers signals.  It runs no job, and does nothing whose cost
grows with what a job carries or with what depends on it.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq.command import PUBSUB_CHANNEL_TEMPLATE

from jiffy import clock, history, keys, log, rq_compat
from jiffy.redis_io import Link, explained
from jiffy.settings import settings
from jiffy.worker import preload, process
from jiffy.worker.child import AGAIN
from jiffy.worker.claim import requeue_command
from jiffy.worker.finish import finish_command
from jiffy.worker.heartbeat import RENEW_EVERY_S, Heartbeat
from jiffy.worker.process import RESTART_AFTER_S, Signals
from jiffy.worker.recovery import SWEEP_EVERY_S, Death, Handling, Recovery
from jiffy.worker.slot import Slot

TICK_S, IDLE_TICK_S = 0.05, 0.1
WAKE_EVERY_S = HEAR_EVERY_S = 0.1
DUE_EVERY_S = MEMORY_EVERY_S = 1
MAINTAIN_EVERY_S = 5
# With others behind it, a job that takes that long was not the blink that it was taken for.
BATCH_PATIENCE_S = 0.05
# Commands obeyed at a time, so that a flood of them keeps a supervisor from nothing else.
MOST_MESSAGES = 100
MOST_LOGGED = 10  # of them in a second
# Ours are of a hundred: a long list would take twenty times its size in memory.
MOST_COMMAND_BYTES = 10_000
# Of a long message only a part may be there yet: reading it without patience would lose the others.
PATIENCE_S = 1


class Supervisor:
    """Runs children until they are done or a signal ends them."""

    def __init__(
        self, slots: Sequence[Slot], signals: Signals,
        companions: Sequence[process.Companion] = (), *, moves_due: bool = False,
    ) -> None:  # fmt: skip
        """`companions` live beside the children for as long.

        `moves_due`: delayed jobs and retries are moved to their queues when their time has come.
        """
        self._slots, self._signals, self._companions = list(slots), signals, companions
        self._trial = 0  # the process that tries new code
        rq_worker = slots[0].rq_worker
        redis = self._redis = rq_worker.connection
        queues = self._queue_keys = [keys.queue(name) for name in rq_worker.queue_names()]
        due = queues if moves_due else [keys.NOTHING]
        default_timeout_s = rq_worker.queue_class.DEFAULT_TIMEOUT
        self._link = Link(redis)
        self._heartbeat = Heartbeat(redis, self._link, slots)
        self._recovery = Recovery(self._link)
        self._commands = Commands(redis, slots, self._shut_down)
        self._ends_at: float | None = None
        self._timers = [
            _Timer(HEAR_EVERY_S, self._commands.hear),
            _Timer(RENEW_EVERY_S, self._renew),
            _Timer(SWEEP_EVERY_S, self._recovery.sweep),
            _Timer(MAINTAIN_EVERY_S, lambda: self._recovery.maintain(queues, MAINTAIN_EVERY_S)),
            _Timer(MEMORY_EVERY_S, self._enforce_memory),
            _Timer(history.PACK_EVERY_S, lambda: history.pack(redis)),
            _Timer(WAKE_EVERY_S, self._wake_sleepers),
            _Timer(DUE_EVERY_S, lambda: self._recovery.enqueue_due(due, default_timeout_s)),
        ]

    def run(self) -> None:
        """Work until the last child has ended for good."""
        self._heartbeat.register()
        with self._signals as signals:
            while self._slots and not self._is_overdue:
                self._tick()
                is_busy = any(slot.board.running for slot in self._slots)
                for asked in signals.wait(TICK_S if is_busy else IDLE_TICK_S):
                    self._obey(asked)
        self._try(self._commands.close)
        for companion in self._companions:
            companion.end()

    @property
    def _is_overdue(self) -> bool:
        """Whether all children have ended, and only Redis, which is away, does not know it yet.

        Then others notice by the leases.
        """
        if self._ends_at is None or any(slot.pid for slot in self._slots):
            return False
        return clock.monotonic() > self._ends_at

    def _tick(self) -> None:
        for companion in self._companions:
            self._try(companion.watch)
        if self._trial:
            self._try(self._end_trial)
        now = clock.monotonic()
        for timer in self._timers:  # as RQ's worker, it tidies up before the first job begins
            if now >= timer.next:
                timer.next = now + timer.every_s
                self._try(timer.run)
        for slot in list(self._slots):
            self._try(self._watch, slot)
        process.reap_strangers({slot.pid for slot in self._slots})

    def _watch(self, slot: Slot) -> None:
        if not slot.pid:
            self._restart(slot)
            return
        status = process.ended(slot.pid)
        if status is not None:
            self._on_end(slot, status)
            return
        if (running := slot.board.running) is not None:
            ran_s = clock.monotonic() - running.began
            slot.enforce_time(running)
            slot.enforce_stop()
            if ran_s > BATCH_PATIENCE_S and slot.requeued != running.batch:
                self._try(self._requeue_rest, slot)
        if self._ends_at is not None:
            slot.enforce_grace(self._ends_at - clock.monotonic())

    def _on_end(self, slot: Slot, status: int) -> None:
        slot.enforce_stop(has_ended=True)
        running, code = slot.board.running, os.waitstatus_to_exitcode(status)
        if running is not None:
            slot.enforce_time(running, has_ended=True)
        slot.kill_groups()  # what its job may have left behind
        if slot.death is None and not (running is None and code in (0, AGAIN)):
            cause = process.cause_of(status)
            log.event("worker.died", log.ERROR, worker=slot.name, pid=slot.pid, cause=cause)
            # In a shutdown it was killed by that: the dyno's manager spares no process.
            handling = Handling.COUNT if self._ends_at is None else Handling.REQUEUE
            slot.death = Death(slot.name, cause, slot.execution_of(running), handling)
        slot.must_leave |= code == 0 and slot.death is None
        slot.pid, slot.starts_at = 0, clock.monotonic()
        if slot.death is not None and running is None:
            slot.starts_at += RESTART_AFTER_S
        self._restart(slot)

    def _restart(self, slot: Slot) -> None:
        """Finish what a dead child has left; then start the next one, or delete its lease.

        In this order: a new child requeues all that its worker holds.
        """
        if noted := slot.board.noted:
            self._finish_all(slot, noted)
            slot.board.numbers.outcomes = 0
        if slot.death:
            self._recovery.recover(slot.death)
            slot.death = None
        if slot.must_leave:
            self._heartbeat.give_up(slot)
            self._slots.remove(slot)
        elif not slot.is_quiet and clock.monotonic() >= slot.starts_at:
            slot.starts_at = clock.monotonic() + RESTART_AFTER_S  # should the fork fail
            slot.start()
            self._redis.hset(slot.rq_worker.key, "pid", slot.pid)

    def _finish_all(self, slot: Slot, plans: bytes) -> None:
        """Finish jobs of a dead child; one whose outcome Redis refuses has failed for that."""
        try:
            self._link.exchange(finish_command(slot.name, plans))
        except ResponseError as error:
            if explained(error):
                raise
            each = msgspec.json.decode(b"[%b]" % plans, type=list[msgspec.Raw])
            for plan in each if len(each) > 1 else ():
                self._finish_all(slot, bytes(plan))
            if len(each) == 1:
                [plan] = json.loads(f"[{plans.decode('utf-8', 'surrogateescape')}]")
                reason = f"Redis refuses its outcome: {error}"
                slot.death = Death(slot.name, reason, plan["execution"], Handling.FAIL)

    def _requeue_rest(self, slot: Slot) -> None:
        """Requeue what the child claimed and has not begun, and finish what it has done."""
        slot.board.halt()
        running = slot.board.running  # read after `halt`: now it begins nothing more
        if running is None or slot.requeued == running.batch:
            return
        commands = []
        plans = slot.board.noted
        if plans and slot.board.running == running:  # else the child has gone on, and finishes
            commands.append(finish_command(slot.name, plans))
        if running.position < slot.board.numbers.last:
            commands.append(requeue_command(slot.name, slot.execution_of(running)))
        if commands:
            self._link.exchange(*commands)
        slot.requeued = running.batch

    def _renew(self) -> None:
        self._heartbeat.renew()
        for slot in self._slots:
            slot.enforce_sending()

    def _enforce_memory(self) -> None:
        for slot in self._slots:
            slot.enforce_memory()

    def _wake_sleepers(self) -> None:
        """RQ's own producers wake no worker: look at the queues for those who sleep."""
        if any(slot.board.numbers.is_asleep for slot in self._slots):
            self._link.run("due", self._queue_keys, ["wake"])

    def _obey(self, asked: str) -> None:
        if asked == Signals.RELOAD:
            self._try(self._reload)
        elif asked == Signals.SHUT_DOWN_NOW:
            self._shut_down_all(asked, 0)
        elif self._ends_at is None:
            self._shut_down_all(asked, settings().grace_s)

    def _shut_down_all(self, cause: str, grace_s: float) -> None:
        """Claim nothing more, let what runs go on for so long, then end."""
        self._ends_at = clock.monotonic() + grace_s
        for companion in self._companions:
            companion.end()
        for slot in self._slots:
            self._shut_down(slot)
        log.event("worker.stopping", cause=cause, grace_s=grace_s)

    def _shut_down(self, slot: Slot, *, stays: bool = False) -> None:
        """Let this child end after the job that it runs; the rest of its batch goes back now.

        With `stays`, its worker is only quiet: it is still shown, and can be resumed.
        """
        slot.is_quiet, slot.must_leave = stays, slot.must_leave or not stays
        if slot.pid and slot.board.running is not None:
            self._try(rq_compat.mark_stopping, slot.rq_worker, clock.now())
        self._retire(slot)

    def _retire(self, slot: Slot) -> None:
        if slot.pid:
            slot.retire()
            self._try(self._requeue_rest, slot)

    def _reload(self) -> None:
        """Replace the children, between jobs, by ones with the code as it is now.

        A process of its own tries that code first: if it fails, all stays as it is.
        """
        if self._ends_at is not None:
            return
        if self._trial:  # of code that has changed since
            process.kill_group(self._trial)
            os.waitpid(self._trial, 0)
        self._trial = process.spawn(preload.TRIAL)

    def _end_trial(self) -> None:
        status = process.ended(self._trial)
        if status is None:
            return
        self._trial = 0
        if status:
            if os.waitstatus_to_exitcode(status) != preload.REPORTED:
                preload.log_failure(reason=process.cause_of(status))
            return
        for slot in self._slots:
            slot.forks = False  # this process has the old code
            self._retire(slot)
        log.event("worker.reloaded", pid=os.getpid())

    def _try(self, action: Callable[..., object], *args: object) -> None:
        """Do something that the next turn does again if it fails: no error ends the dyno."""
        try:
            action(*args)
        except RedisError as error:
            self._link.note_away(error)
        except Exception as error:  # noqa: BLE001 - no process to fork, odd data: all else goes on
            log.event("supervisor.failed", log.ERROR, reason=repr(error))


class Commands:
    """Hears the commands for all workers of one supervisor, on one connection."""

    def __init__(self, redis: Redis, slots: Sequence[Slot], shut_down: Callable[..., None]) -> None:
        self._redis, self._shut_down = redis, shut_down
        self._slots = {PUBSUB_CHANNEL_TEMPLATE % slot.name: slot for slot in slots}
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)
        self._logged, self._log_anew_at = 0, 0.0

    def hear(self) -> None:
        """Obey the commands that have come since the last time.  Raises redis-py's errors."""
        if not self._pubsub.subscribed:
            self._pubsub.subscribe(*self._slots)
        for _ in range(MOST_MESSAGES):
            if not self._has_message():
                break
            message = self._pubsub.get_message(timeout=PATIENCE_S)
            if message is not None:
                self._obey(self._slots[message["channel"].decode()], message["data"])

    def _has_message(self) -> bool:
        """Whether there is one, or a part of one."""
        connection: Any = self._pubsub.connection
        try:
            return bool(connection.can_read(timeout=0))
        except RedisError:
            connection.disconnect()  # the next time it is there again, and subscribed
            raise

    def close(self) -> None:
        """Stop listening for commands."""
        self._pubsub.close()

    def _obey(self, slot: Slot, data: bytes) -> None:
        try:
            payload = json.loads(data[: MOST_COMMAND_BYTES + 1])
            command = payload["command"]
            f"{payload.get('job_id')}".encode("utf-8", "surrogateescape")
        except (ValueError, TypeError, KeyError, RecursionError):
            self._log("command.unreadable", log.WARNING, worker=slot.name, data=data[:200])
            return
        self._log("command.received", worker=slot.name, command=command)
        if command in ("stop-job", "stop-execution"):
            self._stop(slot, payload)
        elif command == "kill-horse" and slot.board.running is not None:
            slot.kill(Handling.FAIL, "killed by the command kill-horse")
        elif command in ("shutdown", "quiet"):
            self._shut_down(slot, stays=command == "quiet")
        elif command == "resume":
            slot.is_quiet = False

    def _stop(self, slot: Slot, payload: Mapping[str, Any]) -> None:
        running, job_id = slot.board.running, payload.get("job_id")
        execution = slot.execution_of(running)
        is_meant = payload.get("execution_id", execution) == execution and self._redis.hexists(
            keys.held(slot.name), f"{job_id}:{execution}"
        )
        if running and is_meant:
            slot.stop(running)
        else:
            self._log("command.ignored", worker=slot.name, job=job_id, reason="it is not running")

    def _log(self, name: str, level: int = log.INFO, **fields: object) -> None:
        """Log what was heard; of a flood, so much as a person may want to see."""
        now = clock.monotonic()
        if now >= self._log_anew_at:
            self._logged, self._log_anew_at = 0, now + 1
        self._logged += 1
        if self._logged <= MOST_LOGGED:
            log.event(name, level, **fields)


@dataclass
class _Timer:
    every_s: float
    action: Callable[[], object]  # returns True if it is to be called again at once
    next: float = 0

    def run(self) -> None:
        if self.action() is True:
            self.next = 0
