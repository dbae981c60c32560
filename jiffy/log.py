"""One way to log: events with fields, one line each, on stdout.

Logging never raises and never blocks for long: a worker goes on if its output is closed or full.
"""

import io
import logging
import os
import select
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

logger = logging.getLogger("jiffy")
_lines: list[str] = []
# Of the job that this process runs, in its log's lines; "" between jobs.  Threads of a job log too,
# and know nothing of its context.
job_id = ""
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR
_LEVELS = {INFO: "INFO", ERROR: "ERROR"}  # of `job`
_PATIENCE_S = 1  # if the reader takes nothing for so long, the line is lost
_PIECE_BYTES = 4096  # a pipe that has room has room for that much (PIPE_BUF)


def setup(level: str) -> None:
    """Log to stdout, a line for each event, times in UTC."""
    line = "%(asctime)s.%(msecs)03d %(levelname)s %(job)s%(message)s"
    formatter = _Formatter(line, "%H:%M:%S")
    formatter.converter = time.gmtime
    _stdout.open()
    with suppress(AttributeError, OSError, ValueError):  # none, full, or closed
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # for what jobs print
    handler = logging.StreamHandler(_stdout)
    handler.setFormatter(formatter)
    handler.addFilter(_name_job)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _name_job(record: logging.LogRecord) -> bool:
    """Begin what a job's code logs with the job's id; our own events have it where it fits."""
    record.job = f"job={job_id} " if job_id and record.name != logger.name else ""
    return True


class _Formatter(logging.Formatter):
    """Writes what a job's code logs so that it is no line of ours, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


def printable(text: str) -> str:
    """`text` with control characters, all but tabs and the ends of lines, as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def escaped(text: str) -> str:
    """The same for the log: later lines are indented, so they forge no line of ours."""
    return printable(text).expandtabs().replace("\n", "\n  ")


class _Stdout(io.TextIOBase):
    """Standard output as it was when the log was set up, whatever a job does to `sys.stdout`."""

    _fd = -1

    def open(self) -> None:
        try:
            self._fd = os.dup(sys.stdout.fileno())
        except (OSError, ValueError, AttributeError):  # closed, or no file
            self._fd = -1

    def write(self, text: str) -> int:
        data, start = text.encode("utf-8", "backslashreplace"), 0
        try:
            while start < len(data) and self._fd >= 0:
                if not select.select([], [self._fd], [], _PATIENCE_S)[1]:
                    break
                end = start + _PIECE_BYTES
                if end < len(data):  # others write there too: between two lines, if one ends
                    end = data.rfind(b"\n", start, end) + 1 or end
                start += os.write(self._fd, data[start:end])
            if self._fd < 0:
                sys.stdout.write(text)
                sys.stdout.flush()
        except (OSError, ValueError, AttributeError):
            pass
        return len(text)


_stdout = _Stdout()


def quieten(*loggers: str) -> None:
    """Let other loggers log warnings and errors only: the rest is logged by us, once."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)


def job(name: str, at_s: float, level: int = INFO, /, **fields: object) -> None:
    """Log how a job ended at `at_s`, cheaply: there may be thousands a second.

    `flush` writes the lines.
    """
    if logger.isEnabledFor(level):
        line = " ".join([name, *[f"{key}={value}" for key, value in fields.items()]])
        is_plain = line.isprintable() and line.count(" ") == len(fields) and "= " not in line
        line = line if is_plain and line[-1] != "=" else _line(name, fields)
        _lines.append(f"{_second(int(at_s))}.{int(at_s % 1 * 1000):03d} {_LEVELS[level]} {line}\n")


@lru_cache(4)
def _second(at_s: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at_s))


def flush() -> None:
    """Write the lines that `job` has collected."""
    if _lines:
        _stdout.write("".join(_lines))
        _lines.clear()


def event(name: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Log `noun.verb field=value ...`; a value with white space is quoted."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _line(name, fields))


def _line(name: str, fields: Mapping[str, object]) -> str:
    for key, value in fields.items():
        text = str(value)
        # What is not printable (also a lone surrogate) cannot be written, or could forge a line.
        is_plain = text.isprintable() and text and " " not in text
        name += f" {key}={text}" if is_plain else f" {key}={text!r}"
    return name
