"""One way to log: events with fields, one line each, on stdout."""

import logging
import sys
import time

logger = logging.getLogger("jiffy")


def setup(level: str) -> None:
    """Send this process's log to stdout, a line an event, times in UTC."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def event(name: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Log `noun.verb field=value ...`; a value with white space is quoted."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", " ".join([name, *(_pair(*item) for item in fields.items())]))


def _pair(name: str, value: object) -> str:
    text = str(value)
    return f"{name}={text!r}" if not text or any(c.isspace() for c in text) else f"{name}={text}"
