"""For those who watch over it all: does the web process answer, does Redis, does anybody work?"""

from typing import Any

from flask import Blueprint
from redis.exceptions import RedisError

import jiffy
from jiffy import connection, entries, keys

page = Blueprint("health", __name__)


@page.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    try:
        told = {
            "workers": _count_workers(),
            "scheduler": entries.glance(connection.shared()).scheduler,
        }
        # 200 also without a scheduler: a platform that heeds this would restart the web process.
        return {"redis": "ok", **told, "version": jiffy.__version__}, 200
    except RedisError as error:
        # Without its address: whoever asks has not logged in.
        reason = connection.away(error).reason
        return {"redis": "away", "reason": reason, "version": jiffy.__version__}, 503


def _count_workers() -> int:
    """How many are alive; the set also names some that died without a word."""
    redis = connection.shared()
    named = redis.smembers(keys.WORKERS)
    return int(redis.exists(*named)) if named else 0
