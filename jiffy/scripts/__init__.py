"""Our Lua, one file per script; each opens with its purpose, KEYS, ARGV and what it returns.

A line `--include wake` stands for all of `wake.lua`.
"""

import re
from functools import lru_cache
from pathlib import Path

from redis import Redis
from redis.commands.core import Script

_INCLUDE = re.compile(r"^--include (\w+)\n", re.MULTILINE)


@lru_cache
def source(name: str) -> str:
    """The text of the script `name`."""
    text = Path(__file__).with_name(f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda found: source(found[1]), text)


def script(redis: Redis, name: str) -> Script:
    """The script `name`, to be called with `keys=[…], args=[…]`; loaded into Redis if need be."""
    return redis.register_script(source(name))
