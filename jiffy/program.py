"""What each of our programs does at its edge: an error of ours is one line, not a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jiffy.connection import away
from jiffy.errors import JiffyError

USAGE_EXIT_CODE = 2


@contextmanager
def in_one_line() -> Iterator[None]:
    """Show an error of ours, or an absent Redis, as one line on stderr; exit with code 2."""
    try:
        yield
    except JiffyError as error:
        _exit(str(error))
    except (RedisConnectionError, RedisTimeoutError) as error:
        _exit(str(away(error)))


def _exit(message: str) -> NoReturn:
    sys.stderr.write(f"{' '.join(message.split())}\n")
    sys.exit(USAGE_EXIT_CODE)
