"""What a job's code logs: kept, shown about once a second, and stored with its outcome.

Every record that its loggers make is taken, whatever handlers the job's modules have set up.  The
first lines and the last ones are kept; what stands between them is counted.
"""

import json
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError
from rq import get_current_job

from jiffy import clock, keys, log
from jiffy.producer.progress import write_if_there
from jiffy.settings import settings

_MOST_LINES, _MOST_CHARACTERS = 500, 4000  # in all; of a line
_WRITE_EVERY_S = 1
_PLAIN = logging.Formatter()


class JobLog:
    """The log of the job that runs; `is_empty` costs nothing where it logs nothing."""

    def __init__(self) -> None:
        self._is_begun, self._most_bytes = False, 0
        self._make: Callable[..., logging.LogRecord] = logging.LogRecord
        self._clear()

    def begin(self) -> None:
        """From now on, what jobs log is kept."""
        self._most_bytes = settings().job_log_bytes
        found = logging.getLogRecordFactory()
        # What a job's modules have put around ours would otherwise be put around itself.
        if self._most_bytes and (not self._is_begun or found is logging.LogRecord):
            self._make, self._is_begun = found, True
            logging.setLogRecordFactory(self._record)

    def take(self) -> str:
        """The log as it is stored; the next job's begins."""
        packed = self._packed()
        self._clear()
        return packed

    def _clear(self) -> None:
        self.is_empty, self._job_id, self._count, self._write_at = True, "", 0, 0.0
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_MOST_LINES // 2)

    def _record(self, *args: Any, **named: Any) -> logging.LogRecord:
        """Without a lock: signal handlers and threads of the job log, too."""
        record = self._make(*args, **named)
        is_ours = record.name == log.logger.name  # the worker's own events
        if not log.job_id or not self._most_bytes or is_ours:
            return record
        now = clock.monotonic()
        if self._job_id != log.job_id:
            self._clear()
            self._job_id, self._write_at = log.job_id, now + _WRITE_EVERY_S
        try:
            text = _PLAIN.format(record)
        except RecursionError:  # what formats it logs itself: the job's, as in logging
            raise
        except Exception:  # noqa: BLE001 - its arguments do not fit, or cannot be written
            msg = f": {record.msg[:200]!r}" if type(record.msg) is str else ""
            text = f"{type(record.msg).__name__} that cannot be formatted{msg}"
        texts = [
            one[:_MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode()
            if isinstance(one, str)
            else f"<{type(one).__name__}>"
            for one in (record.levelname, record.name, text)
        ]
        (self._first if len(self._first) < _MOST_LINES // 2 else self._last).append(
            json.dumps([round(record.created, 3), *texts], ensure_ascii=False)
        )
        self._count, self.is_empty = self._count + 1, False
        if now > self._write_at and (job := get_current_job()):  # there is none in its threads
            self._write_at = now + _WRITE_EVERY_S
            with suppress(RedisError):  # it is only shown: the job goes on
                write_if_there(job.connection, job.key, {keys.LOG_FIELD: self._packed()})
        return record

    def _packed(self) -> str:
        """JSON: how many lines were left out, behind which one, and the lines."""
        lines, room = deque([*self._first, *self._last]), self._most_bytes
        head, tail = list[str](), deque[str]()
        while lines:
            is_tail = len(tail) <= len(head)
            room -= len(lines[-1 if is_tail else 0].encode()) + 1
            if room < 0:
                break
            tail.appendleft(lines.pop()) if is_tail else head.append(lines.popleft())
        left_out = self._count - len(head) - len(tail)
        return f"[{left_out},{len(head)},[{','.join([*head, *tail])}]]"


current = JobLog()
