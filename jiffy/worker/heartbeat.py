"""The leases of a supervisor's workers: as long as they are renewed, their jobs are theirs.

Where Redis is full, or one of RQ's keys holds something else, workers run all the same, and RQ
shows them as soon as that has ended.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from redis.exceptions import OutOfMemoryError, ResponseError
from rq import worker_registration
from rq.defaults import DEFAULT_WORKER_TTL
from rq.worker import WorkerStatus

from jiffy import clock, history, keys, log, os_compat
from jiffy.redis_io import Link
from jiffy.settings import settings
from jiffy.worker import recovery
from jiffy.worker.child_process import ChildProcess
from jiffy.worker.claim import LAST_BATCH, LEASE_S, requeue_command
from jiffy.worker.recovery import Handling

# Of three renewals two may fail.
RENEW_EVERY_S = LEASE_S / 3


def register(link: Link, children: Sequence[ChildProcess]) -> None:
    """Let RQ know of the workers, and begin their leases."""
    for child in children:
        recovery.recover_gone(link, child.name)
        with _showing(child):
            # Before the first trace: what RQ knows of a worker without a lease stays for minutes.
            ends_at, is_first = link.redis.time()[0] + LEASE_S, False
            with suppress(ResponseError):  # a full Redis lets `renew` do it
                is_first = bool(link.redis.zadd(keys.LEASES, {child.name: ends_at}, nx=True))
            try:
                child.rq_worker.register_birth()  # type: ignore[no-untyped-call]
            except ValueError:  # its name is another one's, perhaps one of RQ's
                if is_first:
                    link.redis.zrem(keys.LEASES, child.name)
                raise
            child.rq_worker.set_state(WorkerStatus.STARTED)
            _show(child)
    renew(link, children)


def renew(link: Link, children: Sequence[ChildProcess]) -> None:
    """Renew all leases in one round trip; kill stuck children.  Raises redis-py's errors."""
    if not children:
        return
    arguments: list[str | float] = [LEASE_S, DEFAULT_WORKER_TTL + 60]
    for child in children:
        # Elsewhere, each is a process of `ps`.
        memory = child.memory_bytes if os_compat.IS_LINUX else 0
        birth = child.rq_worker.birth_date
        arguments += [
            child.name, memory, "yes" if child.is_quiet else "", child.rq_worker.token,
            clock.rq_text(birth.timestamp()) if birth else "",
        ]  # fmt: skip
    before = [child.board.numbers.batch for child in children]
    gone = link.run("heartbeat", [keys.LEASES], arguments)
    executions = dict(zip(gone[::2], gone[1::2], strict=True))
    for child, batch in zip(children, before, strict=True):
        is_gone = child.name.encode() in executions
        child.is_shown &= not is_gone
        still = executions.get(child.name.encode(), b"")
        if still is None:
            child.must_leave = child.is_replaced = True
            child.kill(Handling.REQUEUE, "another worker has its name")
            log.event("worker.replaced", log.ERROR, worker=child.name)
            continue
        if is_gone:
            # It was taken for dead, or Redis is new: what it had claimed may run elsewhere by now.
            running = child.board.halt()
            is_own = child.execution_of(running) in still.decode("utf-8", "replace")
            if running and running.batch == batch and not is_own:
                child.kill(Handling.REQUEUE, "its lease was lost", running)
        child.enforce_progress()
        if not (child.pid or child.death or child.board.noted):
            # What its last process sent may come after all that the process has requeued.
            link.exchange(requeue_command(child.name, "", child.token, LAST_BATCH - 1))
        if not child.is_shown:
            with _showing(child):
                _show(child)


def give_up(link: Link, child: ChildProcess) -> None:
    """This worker ends, and holds nothing that must be recovered."""
    if child.is_replaced:
        return
    with _showing(child):
        child.rq_worker.register_death()  # type: ignore[no-untyped-call]
        link.redis.zrem(keys.LEASES, child.name)  # last, as it was the first


def _show(child: ChildProcess) -> None:
    worker = child.rq_worker
    with worker.connection.pipeline() as pipeline:
        pipeline.hset(worker.key, mapping=worker.serialize())
        worker_registration.register(worker, pipeline)
        pipeline.execute()
    if release := settings().this_release:
        history.note_release(worker.connection, release)


@contextmanager
def _showing(child: ChildProcess) -> Iterator[None]:
    """Keep a refusal of Redis from ending the worker; it is shown to RQ later."""
    try:
        yield
        child.is_shown = True
    except ResponseError as error:
        if not isinstance(error, OutOfMemoryError) and "WRONGTYPE" not in str(error):
            raise
        child.is_shown = False
