"""Our Lua, one file per script; each opens with its purpose, KEYS, ARGV and what it returns.

A line `--include lib` stands for all of `lib.lua`, where RQ's key prefix and ours are put in.
"""

import re
from functools import lru_cache
from pathlib import Path

from redis import Redis
from redis.commands.core import Script

from jiffy import keys

_INCLUDE = re.compile(r"^--include (\w+)\n", re.MULTILINE)


@lru_cache
def source(name: str) -> str:
    """The text of the script `name`."""
    text = Path(__file__).with_name(f"{name}.lua").read_text("utf-8")
    text = text.replace("@RQ@", keys.RQ).replace("@OWN@", keys.OWN)
    return _INCLUDE.sub(lambda found: source(found[1]), text)


def script(redis: Redis, name: str) -> Script:
    """The script `name`, to be called with `keys=[…], args=[…]`; loaded into Redis if need be."""
    return redis.register_script(source(name))
