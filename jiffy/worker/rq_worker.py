"""The workers as RQ knows them (its constructor, options, `work`), and `python worker.py`."""

import logging
import os
import secrets
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import rq
from redis import Redis
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.logutils import setup_loghandlers
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from jiffy import clock, history, keys, log, redis_io, rq_compat
from jiffy.hooks import NO_HOOKS, Hooks, around_child, checked
from jiffy.producer import project
from jiffy.producer.enqueue import DEFAULT_QUEUES
from jiffy.producer.options import read_queue
from jiffy.redis_io import Link
from jiffy.settings import settings
from jiffy.worker import preload, process, recovery, upkeep
from jiffy.worker.child import AGAIN, LEAVES, Child, RetireWhen
from jiffy.worker.child_process import ChildProcess
from jiffy.worker.claim import Claimer, Pace
from jiffy.worker.decode import guarded
from jiffy.worker.run import Runner
from jiffy.worker.shared_memory import Board
from jiffy.worker.supervisor import Supervisor

# Prepares a scheduler, or ends this process; returns what the scheduler's own process has to do.
PrepareScheduler = Callable[[Redis], Callable[[], int]]


class _Shared(BaseWorker):
    """What both kinds of worker share.

    RQ's constructor, but for `serializer`: what a worker reads is the setting SERIALIZERS, however
    it is started.  `rq worker` passes pickle unless it is given another.
    """

    # What a child imports before it runs its first job.
    imports: Sequence[str] = ()
    hooks = NO_HOOKS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.serializer = JSONSerializer
        self.queues = [copy(queue) for queue in self.queues]  # their program's stay as they are
        for queue in self.queues:
            queue.job_class, queue.serializer = guarded(self.job_class), self.serializer
        rq_compat.order_queues(self, None)

    def work(self, burst: bool = False, **options: Any) -> bool:  # type: ignore[override]
        """Run jobs, with the options of RQ's `BaseWorker.work`; return whether any was run.

        Where a subclass overrides what nothing here calls, or jobs or queues have a key prefix of
        their own, RQ's own loop runs them, as fast and as safely as it does.
        """
        for name in ("rq.worker", "rq.job", "jiffy"):
            setup_loghandlers(
                options.get("logging_level"),
                options.get("date_format", DEFAULT_LOGGING_DATE_FORMAT),
                options.get("log_format", DEFAULT_LOGGING_FORMAT),
                name=name,
            )
        if options.get("logging_level") is None and not log.logger.level:  # `rq worker` sets RQ's
            log.logger.setLevel(logging.getLogger("rq.worker").level)
        rq_compat.order_queues(self, options.get("dequeue_strategy"))
        self.hooks = _hooks(None)
        max_jobs, max_idle_s = options.get("max_jobs"), options.get("max_idle_time")
        retire_when = RetireWhen(burst, max_jobs, max_idle_s, settings().max_jobs_per_child)
        if reason := self._needs_rqs_loop():
            log.event("worker.rq_loop", log.WARNING, reason=reason)
            self.job_class = guarded(self.job_class)
            return super().work(burst, **options)
        if options.get("with_scheduler"):
            rq_compat.start_scheduler(self, burst, options.get("logging_level"))
        queues = ",".join(self.queue_names())
        log.event("worker.started", worker=self.name, queues=queues, pid=os.getpid())
        try:
            return self._work(retire_when, options.get("logging_level"))
        finally:
            log.event("worker.stopped", worker=self.name)
            if self.scheduler:
                self.stop_scheduler()  # type: ignore[no-untyped-call]

    def _work(self, retire_when: RetireWhen, logging_level: Any) -> bool:
        raise NotImplementedError

    def _needs_rqs_loop(self) -> str:
        """Why this worker's jobs cannot be run as ours are; "" if they can."""
        for name in ("execute_job", "heartbeat"):  # which nothing here calls
            if rq_compat.is_replaced(self, name):
                return f"{name} is overridden"
        jobs, queues = self.job_class, self.queue_class
        if jobs.redis_job_namespace_prefix != rq.job.Job.redis_job_namespace_prefix:
            return f"{jobs.__name__} has its own key prefix"
        if queues.redis_queue_namespace_prefix != rq.Queue.redis_queue_namespace_prefix:
            return f"{queues.__name__} has its own key prefix"
        return ""

    def _child(self, retire_when: RetireWhen, board: Board, pace: Pace, **lease: Any) -> Child:
        link = Link(self.connection, logs="lease_s" in lease)
        claimer = Claimer(link, self.name, self.queue_names(), self.default_result_ttl, **lease)
        runner = Runner(self, link, board, self.hooks.around_job)
        return Child(claimer, runner, retire_when, pace, self._maintain)

    def _maintain(self) -> bool:
        """A supervisor does it (maintain.lua).  Return whether there may be new jobs."""
        return False


class Worker(_Shared, rq.Worker):
    """An RQ worker that loses nothing and pays no fork for a job.

    RQ's constructor; `work` forks one child that runs the jobs, and watches over it.
    """

    _is_child = False

    @cached_property
    def token(self) -> str:
        """8 hex digits with which the ids of its executions begin."""
        return secrets.token_hex(4)

    def serialize(self) -> dict:  # type: ignore[type-arg]
        """What RQ keeps of a worker, with what we do: no other one of its name may claim by now."""
        config = settings()
        return super().serialize() | {
            keys.RELEASE_FIELD: config.this_release, keys.DYNO_FIELD: config.dyno or "",
            keys.TOKEN_FIELD: self.token,
        }  # fmt: skip

    @property
    def is_horse(self) -> bool:
        """Whether this process runs jobs.  Integrations send what they have before it ends."""
        return self._is_child or bool(super().is_horse)

    def _work(self, retire_when: RetireWhen, logging_level: Any) -> bool:
        before = self._counted()
        Supervisor([self.child_process(retire_when)], process.Signals()).run()
        return self._counted() > before

    def child_process(self, retire_when: RetireWhen, *, forks: bool = True) -> ChildProcess:
        """A child that runs jobs as this worker, which is a fork or a new process."""
        work = partial(self.work_in_child, retire_when)
        return ChildProcess(self, work, forks=forks, hears_stops=bool(self.hooks.around_job))

    def work_in_child(self, retire_when: RetireWhen, board: Board, token: str) -> int:
        """Run jobs in this process, which is a child's; return its exit code."""
        self._is_child = True
        options = self.connection.connection_pool.connection_kwargs
        options["socket_timeout"] = self.connection_timeout  # as RQ: jobs may use it, too
        self.death_penalty_class = rq_compat.NoPenalty
        os.environ["RQ_WORKER_ID"] = self.name  # noqa: TID251 - for the job, as RQ does
        # In turns among the queues means one job from each.
        pace = Pace() if rq_compat.serves_in_order(self) else Pace(largest=1)
        child = self._child(retire_when, board, pace, token=token)
        child.isolates_all = settings().isolate
        around = self._around_jobs if self.imports or self.hooks.around_child else nullcontext
        # Or else this process has, or is to have, something open.
        if board.fd == -1 and (child.isolates_all or around is nullcontext):
            child.around_fork = around
            around = nullcontext if child.isolates_all else around
        with around():
            child.work()
        is_over = board.is_retiring_for_good or not (child.is_worn or board.is_retiring)
        return LEAVES if is_over else AGAIN

    @contextmanager
    def _around_jobs(self) -> Iterator[None]:
        """What stands before and after the jobs of one process."""
        preload.import_all(self.imports)
        with around_child(self.hooks):
            yield

    def _counted(self) -> int:
        counts = self.connection.hmget(self.key, "successful_job_count", "failed_job_count")
        return sum(int(count or 0) for count in counts)


class SimpleWorker(_Shared, rq.SimpleWorker):
    """Runs jobs in this very process: for debuggers and tests.

    No supervisor watches it: a job that ignores its time limit is not killed.
    """

    _next_maintenance = 0.0

    def _work(self, retire_when: RetireWhen, logging_level: Any) -> bool:
        recovery.recover_gone(Link(self.connection), self.name)
        self.bootstrap(logging_level)
        # One job at a time, with the lease that RQ gives it: nothing renews it.
        child = self._child(retire_when, Board(), Pace(largest=1), lease_s=0)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, _: object) -> None:
            signal.signal(number, before[signal.Signals(number)])  # the next is not so patient
            child.retire()

        for number in before:
            signal.signal(number, stop)
        try:
            with around_child(self.hooks):
                done = child.work()
            self.connection.zrem(keys.LEASES, self.name)  # nothing is left to recover
            return bool(done)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.teardown()  # type: ignore[no-untyped-call]

    def unsubscribe(self) -> None:
        """As RQ does, but end its thread first: else that listens on, and is waited for."""
        thread: Any = self.pubsub_thread
        if thread:
            thread.stop()
        super().unsubscribe()  # type: ignore[no-untyped-call]

    def _maintain(self) -> bool:
        """RQ's housekeeping, every `maintenance_interval`."""
        if clock.monotonic() < self._next_maintenance:
            return False
        self._next_maintenance = clock.monotonic() + self.maintenance_interval
        try:
            history.pack(self.connection)
            while upkeep.maintain(Link(self.connection), self.queue_keys(), 1):
                pass
        except Exception as error:  # noqa: BLE001 - a corrupt job, or Redis away: housekeeping can wait
            log.event("maintenance.failed", log.WARNING, reason=repr(error))
            return False
        return True


def warn_if_forgetful(redis: Redis) -> None:
    """Warn if Redis would lose jobs: when it restarts, or when it is full."""
    with redis.pipeline(transaction=False) as pipe:
        redis_io.ask_memory(pipe)
        memory = redis_io.Memory.of(pipe.execute(raise_on_error=False))
    if memory.is_kept is False:
        remedy = "CONFIG SET appendonly yes"
        log.event("redis.forgetful", log.WARNING, loses="everything at a restart", remedy=remedy)
    if memory.evicts:
        remedy = "CONFIG SET maxmemory-policy noeviction"
        log.event("redis.forgetful", log.WARNING, loses=f"jobs when full ({memory.policy})",
                  remedy=remedy)  # fmt: skip


def run_workers(
    count: int,
    queues: Sequence[str],
    *,
    burst: bool = False,
    max_jobs: int | None = None,
    max_idle_time: int | None = None,
    prepare: PrepareScheduler | None = None,
    reloads: bool = False,
    hooks: Hooks | None = None,
) -> None:
    """Run `count` jobs at a time until a signal; and a scheduler, in a process of its own.

    `reloads`: also when the jobs' code changes, not on SIGHUP alone.  `hooks`: see `_hooks`.
    """
    role = process.role()
    signals = None if role else process.Signals(reloads=True)
    config, hooks = settings(), _hooks(hooks)
    log.setup(config.log_level)
    log.quieten("rq.worker", "rq.job")
    queues = [read_queue("queue", name) for name in queues or DEFAULT_QUEUES]
    retire_when = RetireWhen(burst, max_jobs, max_idle_time, config.max_jobs_per_child)
    if signals is None:
        process.run(lambda: _do(role, queues, retire_when, hooks))
    program = Path(sys.argv[0]).name
    forks = not preload.has_opened(program)
    redis = redis_io.connected("worker")
    redis_io.check_rights(redis)
    preloads = preload.can_preload(config.jobs_modules, forks=forks)
    companions = [process.Companion(prepare(redis))] if prepare else []
    if reloads or config.reload:
        companions.append(process.Companion(preload.watching(config.jobs_modules)))
    where = {"queues": ",".join(queues), "redis": redis_io.describe(config)}
    log.event("worker.started", workers=count, **where, pid=os.getpid())
    warn_if_forgetful(redis)
    if preloads:
        preload.import_all(config.jobs_modules)
    for client in (redis, redis_io.shared()):  # forks open connections of their own
        redis_io.disconnect(client)
    forks = forks and not preload.has_opened(program)
    imports = () if preloads and forks else config.jobs_modules
    workers = [_worker(queues, name, redis, hooks, imports) for name in _names(config.dyno, count)]
    children = [worker.child_process(retire_when, forks=forks) for worker in workers]
    Supervisor(children, signals, companions, moves_due=True).run()
    log.event("worker.stopped", pid=os.getpid())


def _hooks(given: Hooks | None) -> Hooks:
    """Those of the setting HOOKS, or else those given, or else the project's.

    Raises InvalidValue, and BrokenModule if their module fails.
    """
    if given is None or settings().hooks:
        given = project.hooks(settings().hooks)
    return NO_HOOKS if given is None else checked(given)


def _do(role: Sequence[Any], queues: Sequence[str], retire_when: RetireWhen, hooks: Hooks) -> int:
    """Do what the supervisor has spawned this process for; return its exit code."""
    modules = settings().jobs_modules
    engine, *child = role
    if not child:
        return preload.try_code(modules, engine)
    if engine != preload.ENGINE:
        log.event("child.refused", log.ERROR, reason=preload.CHANGED)
        return preload.REPORTED
    name, fd, token = child
    worker = _worker(queues, name, redis_io.connect("worker"), hooks, modules)
    board = Board(fd)
    os.close(fd)
    return worker.work_in_child(retire_when, board, token)


def _worker(
    queues: Sequence[str], name: str, redis: Redis, hooks: Hooks, imports: Sequence[str]
) -> Worker:
    with warnings.catch_warnings():
        # RQ warns where it may not ask who is connected; nothing needs to know.
        warnings.filterwarnings("ignore", "CLIENT (SETNAME|LIST) command not supported")
        worker = Worker(queues, name, connection=redis)
    worker.hooks, worker.imports = hooks, imports
    return worker


def _names(dyno: str | None, count: int) -> list[str]:
    # RQ shows this name: where the worker is, and which of its children.  The last part is new at
    # each start, so that a dyno that starts again is not taken for the one before.
    place = (dyno or socket.gethostname()).replace(":", "-")
    start = secrets.token_hex(2)
    return [f"{place}.{start}.{number}" for number in range(1, count + 1)]
