"""For those who watch over it all: does the web process answer, does Redis, does anybody work?"""

from typing import Any

from flask import Blueprint
from redis import Redis
from redis.exceptions import RedisError

import jiffy
from jiffy import connection, entries, keys

page = Blueprint("health", __name__)


@page.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    version = {"version": jiffy.__version__}
    try:
        redis = connection.shared()
        connection.check(redis)
        told = {"workers": _count_workers(redis), "scheduler": entries.glance(redis).scheduler}
        # 200 also without a scheduler: a platform that heeds this would restart the web process.
        return {"redis": "ok", **told, **version}, 200
    except RedisError as error:
        known = connection.explained(error)
        state = "away" if known and known.exit_code == 1 else "refused"
        # Without its address: whoever asks has not logged in.
        remedy = {"remedy": known.remedy} if known else {}
        return {"redis": state, "reason": connection.reason_of(error), **remedy, **version}, 503


def _count_workers(redis: Redis) -> int:
    """How many are alive; the set also names some that died without a word."""
    named = redis.smembers(keys.WORKERS)
    return int(redis.exists(*named)) if named else 0
