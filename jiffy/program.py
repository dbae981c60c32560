"""What each of our programs does with an error of ours: print one line, not a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from redis.exceptions import RedisError

from jiffy.errors import InvalidSchedule, JiffyError
from jiffy.redis_io import explained

USAGE_EXIT_CODE = JiffyError.exit_code


@contextmanager
def in_one_line() -> Iterator[None]:
    """Print an error of ours, or why Redis cannot be used, in one line; exit with its status."""
    try:
        yield
    except JiffyError as error:
        _exit(error)
    except RedisError as error:
        if (known := explained(error)) is None:
            raise
        _exit(known)


def _exit(error: JiffyError) -> NoReturn:
    lines = str(error) if isinstance(error, InvalidSchedule) else " ".join(str(error).split())
    sys.stderr.write(f"{lines}\n")
    sys.exit(error.exit_code)
