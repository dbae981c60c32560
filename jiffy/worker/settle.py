"""Settle what RQ's own methods must settle: failures, retries, dependents, repeats, webhooks.

RQ writes an outcome in several steps, each of which may be the last before a kill.  Here its
methods are called on a client that only writes down what they would send; then all of it is sent as
one script, which does nothing unless the started registry still names this execution.
"""

import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from types import TracebackType
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.worker import BaseWorker

from jiffy import clock, keys, log, scripts
from jiffy.retry import Retry, Rules
from jiffy.worker import joins
from jiffy.worker.line import Line
from jiffy.worker.outcome import Again, Failed, Finished, Outcome, Returned, Taken

_DEFAULT_FAILURE_TTL_S = 365 * 24 * 3600  # rq.defaults.DEFAULT_FAILURE_TTL
_MOST_REASON = 4000  # characters
_MOST_MEMBERS = 1000  # of a command; even, so that what belongs together in pairs stays together
_READS = frozenset(
    """EXISTS GET HEXISTS HGET HGETALL HMGET INFO LLEN LPOS LRANGE SCARD SISMEMBER SMEMBERS TIME
    TTL TYPE XLEN XRANGE XREVRANGE ZCARD ZRANGE ZRANGEBYSCORE ZSCORE""".split()  # noqa: SIM905
)


class Recorder(Redis):
    """A client that reads at once and writes down what is written, until `commit`."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self.written: list[tuple[Any, ...]] = []
        self._version_of(redis)

    def __enter__(self) -> "Recorder":
        # Reads, watches and the commit on one connection: a WATCH is worth nothing elsewhere.
        self.connection = self.connection_pool.get_connection()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self.connection is not None
        if kind is not None:
            self.connection.disconnect()
        self.connection_pool.release(self.connection)
        self.connection = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in _READS:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        self.written.append(args)
        return 1

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Notes":
        return Notes(self)

    def look_out_for(self, *names: Any) -> None:
        """Let the commit fail with WatchError if one of these keys changes before it."""
        super().execute_command("WATCH", *names)  # type: ignore[no-untyped-call]

    def commit(self, wip_key: str, member: str, ending: joins.Ending) -> bool:
        """Send it all; False if the execution is no longer this worker's.  Raises WatchError.

        What waits for the job is told of its `ending`.
        """
        connection = self.connection
        assert connection is not None
        now = clock.rq_text(clock.wall())
        written = _in_two(self.written, connection.encoder.encode)
        call = ("EVAL", scripts.source("commit"), 1, wip_key, member, *ending, now, *written)
        connection.send_packed_command(connection.pack_commands([("MULTI",), call, ("EXEC",)]))
        replies = [connection.read_response() for _ in range(3)]
        if replies[2] is None:
            raise WatchError
        if isinstance(replies[2][0], Exception):
            raise replies[2][0]
        return bool(replies[2][0])

    def _version_of(self, redis: Redis) -> None:
        # RQ asks each new client for Redis' version and keeps the answer on it (get_version).
        for name, value in vars(redis).items():
            if "rq_redis_server_version" in name:
                setattr(self, name, value)


def _in_two(commands: Iterable[Sequence[Any]], encode: Callable[[Any], bytes]) -> tuple[str, bytes]:
    """The lengths of the words of all commands, and all words: Redis hears no million of words.

    A command of thousands of members becomes several: Lua hands on some 8,000 words at once.
    """
    lengths, words = list[str](), list[bytes]()
    for name, *rest in commands:
        head, members = [*name.split(), *rest[:1]], rest[1:]
        for first in range(0, len(members) or 1, _MOST_MEMBERS):
            raw = [encode(word) for word in head + members[first : first + _MOST_MEMBERS]]
            lengths.append(",".join(str(len(word)) for word in raw))
            words += raw
    return ";".join(lengths), b"".join(words)


class Notes(Pipeline):
    """A pipeline of a `Recorder`: its writes are written down there and wait for the commit."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder.connection_pool, recorder.response_callbacks, True, None)
        self._recorder = recorder

    def execute_command(self, *args: Any, **options: Any) -> Any:
        result = self._recorder.execute_command(*args, **options)
        if self.watching and not self.explicit_transaction:
            return result
        self.command_stack.append(result)
        return self

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Notes":
        return Notes(self._recorder)

    def watch(self, *names: Any) -> bool:  # type: ignore[override]
        self._recorder.look_out_for(*names)
        self.watching = True
        return True

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        results, self.command_stack = self.command_stack, []
        self.watching = self.explicit_transaction = False
        return results

    def reset(self) -> None:  # type: ignore[override]
        self.command_stack = []
        self.watching = self.explicit_transaction = False


class RareSettler:
    """Settles for the worker that `face` is to RQ."""

    def __init__(self, face: BaseWorker, line: Line) -> None:
        self._face = face
        self._line = line

    def in_place_of(self, worker: str) -> "RareSettler":
        """Settles what another worker has left: jobs, results and counts name that one."""
        face = copy(self._face)
        face.name = worker
        return RareSettler(face, self._line)

    def settle(self, outcome: Outcome) -> bool:
        """Write the outcome, once Redis is there; False if the job was no longer this worker's.

        What RQ's methods cannot settle (a job that cannot be read) is failed with the reason.
        """
        try:
            return self._line.insist(lambda: self._try(outcome))
        except Exception as error:  # noqa: BLE001 - whatever a broken job makes RQ's methods raise
            log.event("job.unreadable", log.ERROR, job=outcome.taken.job_id, reason=repr(error))
            reason = getattr(outcome, "reason", "")
            return self.fail_unread(outcome.taken, f"{reason}{type(error).__name__}: {error}")

    def fail_if_it_must_not_repeat(self, returned: Returned) -> None:
        """Fail a job that was interrupted, if it said that it must never begin twice."""
        taken = returned.taken
        ask = ("HGET", keys.job(taken.job_id), keys.RESCUE_FIELD)
        if self._line.insist(lambda: self._line.exchange(ask)) == [b"no"]:
            reason = "It was interrupted by a shutdown, and it must not begin twice (rescue=False)."
            times = (returned.started_s, returned.ended_s)
            self.settle(Failed(taken, returned.func_name, *times, reason, may_retry=False))

    def fail_unread(self, taken: Taken, reason: str) -> bool:
        """Fail a job without reading it; its data stays as it is."""
        now_s = clock.wall()
        packed = b64encode(zlib.compress(reason.encode("utf-8", "replace"))).decode()
        arguments = [
            taken.job_id.encode("utf-8", "surrogateescape"), taken.execution, self._face.name,
            clock.rq_text(now_s), now_s, _DEFAULT_FAILURE_TTL_S, packed,
        ]  # fmt: skip
        names = [
            keys.REGISTRIES["started"] + taken.queue, keys.REGISTRIES["failed"] + taken.queue,
            keys.job(taken.job_id), keys.results(taken.job_id),
        ]  # fmt: skip
        raw: list[Any] = [name.encode("utf-8", "surrogateescape") for name in names]
        return bool(self._line.insist(lambda: self._line.run("fail", raw, arguments))[0])

    def _try(self, outcome: Outcome) -> bool:
        while True:
            with Recorder(self._line.redis) as recorder:
                try:
                    job, over = self._write(outcome, recorder)
                    taken = outcome.taken
                    member = f"{taken.job_id}:{taken.execution}"
                    ending = joins.ending_of(outcome, job._status)
                    wip_key = keys.REGISTRIES["started"] + taken.queue
                    ours = recorder.commit(wip_key, member, ending)
                    break
                except WatchError:
                    recorder.written.clear()
        if ours and isinstance(outcome, Failed) and outcome.objection:
            log.event("job.given_up", log.WARNING, job=taken.job_id, reason=outcome.objection)
        if ours and over is not None:
            job.send_webhooks(over, exc_string=getattr(outcome, "reason", None))
        return ours

    def _write(self, outcome: Outcome, recorder: Recorder) -> tuple[Job, JobStatus | None]:
        """Let RQ's methods write the outcome down.

        Returns the job as they left it, and the status of which webhooks are to be told.
        """
        taken = outcome.taken
        face = self._face
        # Read anew at each try: RQ's methods change the object (retries_left, for one).
        job = face.job_class.fetch(taken.job_id, recorder, face.serializer)
        job.origin = taken.queue
        job.worker_name = face.name
        job.started_at = clock.from_wall(outcome.started_s)
        job.ended_at = job.last_heartbeat = clock.from_wall(outcome.ended_s)
        queue = face.queue_class(
            taken.queue, connection=recorder, job_class=face.job_class, serializer=face.serializer
        )
        execution = Execution(taken.execution, taken.job_id, recorder, face.name)
        execution.created_at = clock.from_wall(outcome.started_s)
        # RQ enqueues those whose dependencies are met one by one, later; here the script does it.
        with _Lent(face, recorder), _Without(queue, "enqueue_ready_jobs_by_queue"):
            if isinstance(outcome, Finished):
                return job, self._write_success(job, queue, execution, outcome)
            # RQ releases dependents after the failure is written, and looks at the status in Redis;
            # here nothing is written yet, so it is asked to look at the job, and in the same step.
            with _Without(queue, "enqueue_dependents"), _Without(job, "send_webhooks"):
                write = self._write_again if isinstance(outcome, Again) else self._write_failure
                job._status = write(job, queue, execution, outcome)  # type: ignore[arg-type]
            if job._status in (JobStatus.FAILED, JobStatus.STOPPED):
                queue.move_dependents_to_ready(job, refresh_job_status=False)
        return job, JobStatus.FAILED if job._status == JobStatus.FAILED else None

    def _write_success(
        self, job: Job, queue: Queue, execution: Execution, outcome: Finished
    ) -> JobStatus:
        packed = outcome.value
        job._result = None if packed is None else job.serializer.loads(packed)
        job._status = JobStatus.FINISHED
        self._face.handle_job_success(job, queue, queue.started_job_registry, execution)
        return JobStatus.FINISHED

    def _write_again(
        self, job: Job, queue: Queue, execution: Execution, outcome: Again
    ) -> JobStatus:
        retry = outcome.retry.once if isinstance(outcome.retry, Retry) else outcome.retry
        job._result = retry
        is_last = bool(job.number_of_retries and job.number_of_retries >= retry.max)
        registry = queue.started_job_registry
        self._face.handle_job_retry(job, queue, retry, registry, execution)
        return JobStatus.FAILED if is_last else job._status

    def _write_failure(
        self, job: Job, queue: Queue, execution: Execution, outcome: Failed
    ) -> JobStatus:
        outcome.objection = "" if outcome.was_stopped else self._object(job, outcome)
        if not outcome.may_retry or outcome.objection:
            job.retries_left = None  # to RQ's methods; what is left is left in Redis
        if outcome.was_stopped:
            self._face._stopped_job_id = job.id
        is_last = outcome.was_stopped or not job.should_retry
        registry = queue.started_job_registry
        self._face.handle_job_failure(job, queue, registry, outcome.reason, execution)
        if not is_last:
            # RQ forgets why: its results tell of the last try alone.
            job.connection.hset(job.key, keys.REASON_FIELD, _end_of(outcome.reason))
            return job._status
        job.connection.hdel(job.key, keys.REASON_FIELD)
        return JobStatus.STOPPED if outcome.was_stopped else JobStatus.FAILED

    def _object(self, job: Job, outcome: Failed) -> str:
        """Why it is not to be tried again, by its own rules; its pause becomes what they say."""
        if not (outcome.may_retry and job.should_retry):
            return ""
        rules = Rules(job.connection.hget(job.key, keys.RETRY_FIELD))
        pause_s = rules.pause_s(job.get_retry_interval())
        job.get_retry_interval = lambda: pause_s  # type: ignore[method-assign, assignment, return-value]
        return rules.objection(outcome.kinds)


def _end_of(reason: str) -> bytes:
    """As many whole lines of its end as fit; of a last line that does not, the beginning."""
    text = reason.rstrip()
    if len(text) > _MOST_REASON:
        text = text[-_MOST_REASON:].partition("\n")[2] or text.splitlines()[-1][:_MOST_REASON]
    return text.encode("utf-8", "replace")


class _Lent:
    """Lend the worker another client for a while."""

    def __init__(self, face: BaseWorker, client: Redis) -> None:
        self._face, self._client = face, client

    def __enter__(self) -> None:
        self._own, self._face.connection = self._face.connection, self._client

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._face.connection = self._own


class _Without:
    """Let a method of one object do nothing for a while."""

    def __init__(self, owner: object, name: str) -> None:
        self._owner, self._name = owner, name

    def __enter__(self) -> None:
        setattr(self._owner, self._name, lambda *args, **kwargs: None)

    def __exit__(self, *_: object) -> None:
        delattr(self._owner, self._name)
