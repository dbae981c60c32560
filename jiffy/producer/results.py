"""What became of jobs: hearing of their end, through the stream that RQ writes results to."""

import zlib
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rq.job import Job, JobStatus

from jiffy import clock, keys, redis_io
from jiffy.producer import job_progress

OVER = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED}
_OVER = {status.value.encode() for status in OVER}
_CANCELED = JobStatus.CANCELED.value.encode()
# An end comes by itself; this is how soon it is noticed that a job is deleted, or canceled.
_FIRST_LOOK_MS, _LOOK_EVERY_MS = 100, 1000
_SHOW_EVERY_MS = 250
_SUCCESSFUL = b"1"  # rq.results.Result.Type
_REASON = keys.REASON_FIELD.encode()


@dataclass(frozen=True)
class Ending:
    """How a job ended; what it returned, and what it raised, is decoded when it is asked for.

    `is_gone`: there is no such job (any more), so nothing is known; RQ deletes what finished with
    result_ttl=0.
    """

    status: JobStatus
    is_gone: bool = False
    _fields: Mapping[bytes, bytes] = field(default_factory=dict)
    _serializer: Any = None

    @property
    def value(self) -> Any:
        """What it returned."""
        raw = self._fields.get(b"return_value")
        return None if raw is None else self._serializer.loads(b64decode(raw))

    @property
    def traceback(self) -> str:
        """The text of what it raised, or why it was canceled; "" for nothing."""
        if (raw := self._fields.get(b"exc_string")) is not None:
            return zlib.decompress(b64decode(raw)).decode("utf-8", "replace")
        return self._fields.get(_REASON, b"").decode("utf-8", "replace")


def wait(
    job: Job,
    timeout_s: float | None = None,
    on_progress: Callable[[job_progress.State], None] | None = None,
) -> Ending | None:
    """Block until `job` is over and return its ending; None after `timeout_s`.

    `on_progress` is called with what the job says of itself meanwhile.
    """
    watch = Watch([job])
    deadline = None if timeout_s is None else clock.monotonic() + timeout_s
    while not (ended := watch.look(deadline, None if on_progress is None else _SHOW_EVERY_MS)):
        state = None if on_progress is None else job_progress.read(job)
        if state is not None and on_progress is not None:
            on_progress(state)
        if deadline is not None and clock.monotonic() >= deadline:
            return None
    return ended[0][1]


class Watch:
    """Watches over jobs until they are over."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._seen: dict[str, bytes] = {}  # job id -> the last entry of its stream
        self._entries: dict[str, dict[bytes, bytes]] = {}
        self._block_ms = _FIRST_LOOK_MS

    @property
    def waiting(self) -> list[Job]:
        """Those that are not over yet."""
        return list(self._jobs.values())

    def look(
        self, deadline: float | None = None, block_ms: int | None = None
    ) -> list[tuple[Job, Ending]]:
        """Wait for news, not past `deadline`; return those that are over, once each.

        With `block_ms=0` it only looks: a wait holds a connection.
        """
        if block_ms is None:
            block_ms, self._block_ms = self._block_ms, _LOOK_EVERY_MS
        if deadline is not None and block_ms:
            block_ms = max(1, min(block_ms, int((deadline - clock.monotonic()) * 1000)))
        statuses, news = self._ask(block_ms)
        for job_id, (entry_id, fields) in news.items():
            self._seen[job_id], self._entries[job_id] = entry_id, fields
        ended = []
        for job, (status, reason) in zip(self.waiting, statuses, strict=True):
            if reason is not None and status == _CANCELED:
                self._entries[job.id] = {_REASON: reason}
            ending = self._ending(job, status, is_new=job.id in news)
            if ending is not None:
                del self._jobs[job.id]
                ended.append((job, ending))
        return ended

    def _ask(self, block_ms: int) -> tuple[list[Any], dict[str, tuple[bytes, dict[bytes, bytes]]]]:
        """The jobs' statuses and reasons, and the newest entry of each stream, in one round trip.

        Redis looks at the statuses first, then waits for an entry.
        """
        ids = list(self._jobs)
        since = [self._seen.get(job_id, b"0-0") for job_id in ids]
        streams = [keys.results(job_id) for job_id in ids]
        commands = [
            redis_io.command("HMGET", keys.job(job_id), "status", keys.REASON_FIELD)
            for job_id in ids
        ]
        block = ("BLOCK", block_ms) if block_ms else ()
        commands.append(redis_io.command("XREAD", *block, "STREAMS", *streams, *since))
        redis = self._jobs[ids[0]].connection
        *statuses, answer = redis_io.patiently(redis, lambda: redis_io.exchange(redis, *commands))
        # Pairs, or a dict where somebody's own client speaks RESP 3.
        return statuses, {
            ids[streams.index(stream.decode())]: (entries[-1][0], _pairs(entries[-1][1]))
            for stream, entries in dict(answer or ()).items()
        }

    def _ending(self, job: Job, status: bytes | None, *, is_new: bool) -> Ending | None:
        fields = self._entries.get(job.id, {})
        if is_new and fields.get(b"type") != _SUCCESSFUL:
            # Not the end if it is tried again; its status was read before this came.
            status = _status(job)
        elif is_new:
            status = JobStatus.FINISHED.value.encode()
        if status is None:
            return Ending(JobStatus.FINISHED, is_gone=True)
        if status not in _OVER:
            return None
        return Ending(JobStatus(status.decode()), False, fields, job.serializer)


def _status(job: Job) -> bytes | None:
    status: Any = job.connection.hget(keys.job(job.id), "status")
    return None if status is None else bytes(status)


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
