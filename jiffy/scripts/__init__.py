"""Our Lua, one file per script; each opens with its purpose, KEYS, ARGV and what it returns."""

from functools import lru_cache
from importlib import resources

from redis import Redis
from redis.commands.core import Script


@lru_cache
def source(name: str) -> str:
    """The text of the script `name`."""
    return resources.files(__package__).joinpath(f"{name}.lua").read_text()


def script(redis: Redis, name: str) -> Script:
    """The script `name`, to be called with `keys=[…], args=[…]`; loaded into Redis if need be."""
    return redis.register_script(source(name))
