"""The process that watches over the children: it starts them, renews their leases, holds them to
their limits (`child_process.py`), recovers the jobs of dead ones and answers signals.

It runs no job, and does nothing whose cost grows with what a job carries or with what depends on
it.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from redis.exceptions import RedisError, ResponseError
from rq.command import PUBSUB_CHANNEL_TEMPLATE

from jiffy import clock, history, keys, log, rq_compat
from jiffy.redis_io import ANSWER_TIMEOUT_S, Link, Unanswered, command, explained
from jiffy.settings import settings
from jiffy.worker import heartbeat, preload, process, recovery, upkeep
from jiffy.worker.child import AGAIN, LEAVES
from jiffy.worker.child_process import ChildProcess
from jiffy.worker.claim import requeue_command, text
from jiffy.worker.finish import finish_command
from jiffy.worker.heartbeat import RENEW_EVERY_S
from jiffy.worker.process import RESTART_AFTER_S, Signals
from jiffy.worker.recovery import SWEEP_EVERY_S, UNKNOWN_CULPRIT, Death, Handling
from jiffy.worker.shared_memory import Board

TICK_S, IDLE_TICK_S = 0.05, 0.1
WAKE_EVERY_S = HEAR_EVERY_S = 0.1
DUE_EVERY_S = MEMORY_EVERY_S = 1
MAINTAIN_EVERY_S = 5
# With others behind it, a job that takes that long was not the blink that it was taken for.
BATCH_PATIENCE_S = 0.05
ASK_EVERY_S = 5  # whether the connection on which commands come is still one
# Commands obeyed at a time, so that a flood of them keeps a supervisor from nothing else.
MOST_MESSAGES = 100
MOST_LOGGED = 10  # of them in a second
# Ours are of a hundred: a long list would take twenty times its size in memory.
MOST_COMMAND_BYTES = 10_000
MOST_HELD = 1000  # more than a worker claims
# Of a long message only a part may be there yet: reading it without patience would lose the others.
PATIENCE_S = 1
# So long before the grace period ends, what still runs is interrupted, then killed.
INTERRUPT_BEFORE_S, KILL_BEFORE_S = 3, 1


class Supervisor:
    """Runs children until they are done or a signal ends them."""

    def __init__(
        self, children: Sequence[ChildProcess], signals: Signals,
        companions: Sequence[process.Companion] = (), *, moves_due: bool = False,
    ) -> None:  # fmt: skip
        """`companions` live beside the children for as long.

        `moves_due`: delayed jobs and retries are moved to their queues when their time has come.
        """
        self._children, self._signals, self._companions = list(children), signals, companions
        self._trial = 0  # the process that tries new code
        rq_worker = children[0].rq_worker
        queues = self._queue_keys = [keys.queue(name) for name in rq_worker.queue_names()]
        due = queues if moves_due else [keys.NOTHING]
        default_timeout_s = rq_worker.queue_class.DEFAULT_TIMEOUT
        # A line that has gone silent must not cost the leases.  RQ has set 415 s, also for the
        # first words on a connection: children, whose jobs may use it, set that again.
        options = rq_worker.connection.connection_pool.connection_kwargs
        options["socket_timeout"] = ANSWER_TIMEOUT_S
        link = self._link = Link(rq_worker.connection, answer_s=RENEW_EVERY_S)
        self._commands = Commands(link, children, self._shut_down)
        self._ends_at = math.inf  # in a shutdown, when the grace period is over
        self._timers = [
            _Timer(HEAR_EVERY_S, self._commands.hear),
            _Timer(RENEW_EVERY_S, lambda: heartbeat.renew(link, self._children)),
            _Timer(SWEEP_EVERY_S, lambda: recovery.sweep(link)),
            _Timer(MAINTAIN_EVERY_S, lambda: upkeep.maintain(link, queues, MAINTAIN_EVERY_S)),
            *[_Timer(MEMORY_EVERY_S, child.enforce_memory) for child in children],
            _Timer(history.PACK_EVERY_S, self._pack_history),
            _Timer(WAKE_EVERY_S, self._wake_sleepers),
            _Timer(DUE_EVERY_S, lambda: upkeep.enqueue_due(link, due, default_timeout_s)),
        ]

    def run(self) -> None:
        """Work until the last child has ended for good."""
        heartbeat.register(self._link, self._children)
        with self._signals as signals:
            # Where Redis is away, others find by the leases what ended in the shutdown.
            while any(child.pid or clock.monotonic() <= self._ends_at for child in self._children):
                for companion in self._companions:
                    self._try(companion.watch)
                if self._trial:
                    self._try(self._end_trial)
                now = clock.monotonic()
                for timer in self._timers:  # as RQ's worker, it tidies up before the first job
                    if now >= timer.next:
                        timer.next = now + timer.every_s
                        self._try(timer.run)
                for child in list(self._children):
                    self._try(self._watch, child)
                ours = {child.pid for child in self._children}
                ours |= {companion.pid for companion in self._companions}
                process.reap_strangers(ours | {self._trial})
                is_busy = any(child.board.running for child in self._children)
                for asked in signals.wait(TICK_S if is_busy else IDLE_TICK_S):
                    self._obey(asked)
        self._try(self._commands.pubsub.close)
        for companion in self._companions:
            companion.end()

    def _watch(self, child: ChildProcess) -> None:
        if not child.pid:
            self._restart(child)
            return
        status = process.ended(child.pid)
        if status is not None:
            self._on_end(child, status)
            return
        if (running := child.board.running) is not None:
            ran_s = clock.monotonic() - running.began
            child.enforce_time(running)
            child.enforce_stop()
            if ran_s > BATCH_PATIENCE_S and child.requeued != running.batch:
                self._try(self._requeue_rest, child)
        # A job is interrupted first.  Then the child is killed: without a job it waits for Redis.
        left_s = self._ends_at - clock.monotonic()
        if left_s <= KILL_BEFORE_S:
            child.kill(Handling.REQUEUE, "the grace period of a shutdown was over")
        elif left_s <= INTERRUPT_BEFORE_S and child.board.running is not None:
            child.interrupt(child.board.running, Board.INTERRUPT)

    def _on_end(self, child: ChildProcess, status: int) -> None:
        child.enforce_stop(has_ended=True)
        running, code = child.board.running, os.waitstatus_to_exitcode(status)
        execution = child.execution_of(running)
        if running is not None:
            child.enforce_time(running, has_ended=True)
        child.kill_groups()  # what its job may have left behind
        # Unless `death` says why it was killed, or it has left by itself, it has died by itself.
        if child.death is None and not (running is None and code in (AGAIN, LEAVES)):
            cause = process.cause_of(status)
            log.event("worker.died", log.ERROR, worker=child.name, pid=child.pid, cause=cause)
            # In a shutdown it was killed by that: the dyno's manager spares no process.
            handling = Handling.COUNT if self._ends_at == math.inf else Handling.REQUEUE
            child.death = Death(child.name, cause, execution, handling)
        elif child.death and running and child.death.execution != execution:
            # What it was killed for had just ended: the job that had begun by then is not to blame.
            child.death = replace(child.death, execution=execution, handling=Handling.REQUEUE)
        child.must_leave |= code == LEAVES and child.death is None
        child.pid, child.starts_at = 0, clock.monotonic()
        if child.death is not None and running is None:
            child.starts_at += RESTART_AFTER_S
        self._restart(child)

    def _restart(self, child: ChildProcess) -> None:
        """Finish what a dead child has left; then start the next one, or delete its lease.

        In this order: a new child requeues all that its worker holds.
        """
        if noted := child.board.noted:
            child.death = self._finish_all(child, noted) or child.death
            child.board.numbers.noted_bytes = 0
        if child.death:
            recovery.recover(self._link, child.death, child.token)
            child.death = None
        if child.must_leave:
            heartbeat.give_up(self._link, child)
            self._children.remove(child)
        elif not child.is_quiet and clock.monotonic() >= child.starts_at:
            child.starts_at = clock.monotonic() + RESTART_AFTER_S  # should the fork fail
            child.start()
            self._link.exchange(command("HSET", child.rq_worker.key, "pid", child.pid))

    def _finish_all(self, child: ChildProcess, plans: bytes) -> Death | None:
        """Finish jobs of a dead child; return what fails one whose outcome Redis refuses."""
        try:
            self._link.exchange(finish_command(child.name, plans))
            return None
        except ResponseError as error:
            if explained(error):
                raise
            each = []
            with suppress(msgspec.MsgspecError, RecursionError):  # a job may have written them
                each = msgspec.json.decode(b"[%b]" % plans, type=list[msgspec.Raw])
            if len(each) > 1:  # the others are finished, and of several that are refused one fails
                deaths = [self._finish_all(child, bytes(plan)) for plan in each]
                return next(filter(None, deaths), None)
            with suppress(ValueError, TypeError, LookupError, RecursionError):
                [plan] = json.loads(f"[{plans.decode('utf-8', 'surrogateescape')}]")
                reason = f"Redis refuses its outcome: {error}"
                return Death(child.name, reason, plan["execution"], Handling.FAIL)
            return Death(child.name, "it noted an outcome that cannot be read", UNKNOWN_CULPRIT)

    def _requeue_rest(self, child: ChildProcess) -> None:
        """Requeue what the child claimed and has not begun, and finish what it has done."""
        running = child.board.halt()
        if running is None or child.requeued == running.batch:
            return
        plans = child.board.noted
        if child.board.running != running:
            return  # it has gone on: it finishes, and requeues the rest
        commands = [finish_command(child.name, plans)] if plans else []
        if running.position < child.board.numbers.last:
            execution = child.execution_of(running)
            commands.append(requeue_command(child.name, execution, child.token, running.batch))
        if commands:
            self._link.exchange(*commands)
        child.requeued = running.batch

    def _pack_history(self) -> None:
        self._link.exchange(command("PING"))  # or else it might wait on a silent line for 10 s
        history.pack(self._link.redis)

    def _wake_sleepers(self) -> None:
        """RQ's own producers wake no worker: look at the queues for those who sleep."""
        if any(child.board.numbers.is_asleep for child in self._children):
            self._link.run("due", self._queue_keys, ["wake"])

    def _obey(self, asked: str) -> None:
        if asked == Signals.RELOAD:
            self._try(self._reload)
        elif asked == Signals.SHUT_DOWN_NOW:
            self._shut_down_all(asked, 0)
        elif self._ends_at == math.inf:
            self._shut_down_all(asked, settings().grace_s)

    def _shut_down_all(self, cause: str, grace_s: float) -> None:
        """Claim nothing more, let what runs go on for so long, then end."""
        self._ends_at = clock.monotonic() + grace_s
        for companion in self._companions:
            companion.end()
        for child in self._children:
            self._shut_down(child)
        log.event("worker.stopping", cause=cause, grace_s=grace_s)

    def _shut_down(self, child: ChildProcess, *, stays: bool = False) -> None:
        """Let this child end after the job that it runs; the rest of its batch goes back now.

        With `stays`, its worker is only quiet: it is still shown, and can be resumed.
        """
        child.is_quiet, child.must_leave = stays, child.must_leave or not stays
        if child.pid and child.board.running is not None:
            self._try(rq_compat.mark_stopping, child.rq_worker, clock.now())
        self._retire(child)

    def _retire(self, child: ChildProcess) -> None:
        if child.pid:
            child.retire()
            self._try(self._requeue_rest, child)

    def _reload(self) -> None:
        """Replace the children, between jobs, by ones with the code as it is now.

        A process of its own tries that code first: if it fails, all stays as it is.
        """
        if self._ends_at < math.inf:
            return
        if self._trial:  # of code that has changed since
            process.kill_group(self._trial)
            os.waitpid(self._trial, 0)
        self._trial = process.spawn(preload.ENGINE)

    def _end_trial(self) -> None:
        status = process.ended(self._trial)
        if status is None:
            return
        self._trial = 0
        if status:
            if os.waitstatus_to_exitcode(status) != preload.REPORTED:
                preload.log_failure(reason=process.cause_of(status))
            return
        for child in self._children:
            child.forks = False  # this process has the old code
            self._retire(child)
        log.event("worker.reloaded", pid=os.getpid())

    def _try(self, action: Callable[..., object], *args: object) -> None:
        """Do something, and log it if that fails: no error ends the dyno."""
        try:
            action(*args)
        except RedisError as error:
            self._link.note_away(error)
        except Exception as error:  # noqa: BLE001 - no process to fork, odd data: all else goes on
            log.event("supervisor.failed", log.ERROR, reason=repr(error))


class Commands:
    """Hears the commands for all workers of one supervisor, on one connection."""

    def __init__(
        self, link: Link, children: Sequence[ChildProcess], shut_down: Callable[..., None]
    ) -> None:
        self._link, self._shut_down = link, shut_down
        self._children = {PUBSUB_CHANNEL_TEMPLATE % child.name: child for child in children}
        self.pubsub = link.redis.pubsub(ignore_subscribe_messages=True)
        self._logged, self._log_anew_at = 0, 0.0
        self._is_asked, self._ask_at = False, 0.0

    def hear(self) -> None:
        """Obey the commands that have come since the last time.  Raises redis-py's errors."""
        if not self.pubsub.subscribed:
            self.pubsub.subscribe(*self._children)
        connection: Any = self.pubsub.connection
        for _ in range(MOST_MESSAGES):
            try:
                if not connection.can_read(timeout=0):
                    break
            except RedisError:
                connection.disconnect()  # the next time it is there again, and subscribed
                raise
            # There is one, or a part of one.
            message = self.pubsub.get_message(timeout=PATIENCE_S)
            self._is_asked = False
            if message is not None and message["channel"]:  # a PONG has none
                self._obey(self._children[message["channel"].decode()], message["data"])
        if clock.monotonic() >= self._ask_at:
            self._ask()

    def _ask(self) -> None:
        """Give up a line on which nothing has come since it was asked: no command would."""
        is_silent, self._is_asked = self._is_asked, not self._is_asked
        self._ask_at = clock.monotonic() + ASK_EVERY_S
        connection: Any = self.pubsub.connection
        if is_silent:
            connection.disconnect()
            raise Unanswered(f"no answer in {ASK_EVERY_S} s")
        connection.send_command("PING")

    def _obey(self, child: ChildProcess, data: bytes) -> None:
        try:
            payload = json.loads(data[: MOST_COMMAND_BYTES + 1])
            command = payload["command"]
            f"{payload.get('job_id')}".encode("utf-8", "surrogateescape")
        except (ValueError, TypeError, KeyError, RecursionError):
            self._log("command.unreadable", log.WARNING, worker=child.name, data=data[:200])
            return
        self._log("command.received", worker=child.name, command=command)
        if command in ("stop-job", "stop-execution"):
            self._stop(child, payload)
        elif command == "kill-horse" and (running := child.board.running) is not None:
            child.kill(Handling.FAIL, "killed by the command kill-horse", running)
        elif command in ("shutdown", "quiet"):
            self._shut_down(child, stays=command == "quiet")
        elif command == "resume":
            child.is_quiet = False

    def _stop(self, child: ChildProcess, payload: Mapping[str, Any]) -> None:
        job_id, meant = f"{payload.get('job_id')}", payload.get("execution_id")
        [held] = self._link.exchange(command("HRANDFIELD", keys.held(child.name), MOST_HELD))
        named = [text(member).rpartition(":") for member in held]
        executions = [one for its, _, one in named if its == job_id and meant in (None, one)]
        for execution in executions:
            child.stop(execution)
        if not executions:
            self._log("command.ignored", worker=child.name, job=job_id, reason="it is not running")

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
