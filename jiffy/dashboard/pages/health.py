"""For those who watch over the web process: does it answer, does Redis, does anybody work?"""

from typing import Any

from flask import Blueprint
from redis.exceptions import RedisError

import jiffy
from jiffy import connection, keys

page = Blueprint("health", __name__)


@page.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    try:
        return {"redis": "ok", "workers": _count_workers(), "version": jiffy.__version__}, 200
    except RedisError as error:
        # Without its address: whoever asks has not logged in.
        reason = connection.away(error).reason
        return {"redis": "away", "reason": reason, "version": jiffy.__version__}, 503


def _count_workers() -> int:
    """How many are alive; the set also names some that died without a word."""
    redis = connection.shared()
    named = redis.smembers(keys.WORKERS)
    return int(redis.exists(*named)) if named else 0
