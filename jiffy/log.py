"""One way to log: events with fields, one line each, on stdout."""

import logging
import sys
import time

from jiffy import clock

logger = logging.getLogger("jiffy")
_lines: list[str] = []
WARNING, ERROR = logging.WARNING, logging.ERROR


def setup(level: str) -> None:
    """Send this process's log to stdout, a line an event, times in UTC."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def quieten(*loggers: str) -> None:
    """Let others log warnings and errors only: what they do is logged by us, once."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)


def job(name: str, **fields: object) -> None:
    """Log what became of a job, cheaply: it may be thousands a second.  `flush` sends the lines."""
    if logger.isEnabledFor(logging.INFO):
        _lines.append(" ".join([name, *(_pair(*item) for item in fields.items())]))


def flush() -> None:
    """Write the lines of `job`."""
    if _lines:
        now_s = clock.wall()
        at = time.strftime("%H:%M:%S", time.gmtime(now_s)) + f".{int(now_s % 1 * 1000):03d} INFO "
        sys.stdout.write(at + f"\n{at}".join(_lines) + "\n")
        sys.stdout.flush()
        _lines.clear()


def event(name: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Log `noun.verb field=value ...`; a value with white space is quoted."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", " ".join([name, *(_pair(*item) for item in fields.items())]))


def _pair(name: str, value: object) -> str:
    text = str(value)
    # What is not printable (also half a character) could not be written, or forge a line.
    is_plain = text.isprintable() and text and " " not in text
    return f"{name}={text}" if is_plain else f"{name}={text!r}"
