"""For monitors: `/healthz` and, for Prometheus, `/metrics`."""

from typing import Any

from flask import Blueprint, Response
from redis.exceptions import RedisError

import jiffy
from jiffy import redis_io
from jiffy.control import entries, read

page = Blueprint("health", __name__)


@page.get("/healthz")
def healthz() -> tuple[dict[str, Any], int]:
    version = {"version": jiffy.__version__}
    try:
        redis = redis_io.shared()
        redis_io.check(redis)
        found = {"workers": read.count_workers(redis), "scheduler": entries.glance(redis).scheduler}
        # 200 without a scheduler, too: a platform would restart the web process otherwise.
        return {"redis": "ok", **found, **version}, 200
    except RedisError as error:
        known = redis_io.explained(error)
        state = "away" if known and known.exit_code == 1 else "refused"
        # Without the URL: this needs no login.
        remedy = {"remedy": known.remedy} if known else {}
        return {"redis": state, "reason": redis_io.reason_of(error), **remedy, **version}, 503


@page.get("/metrics")
def metrics() -> Response:
    """It needs a token of the API, which `api/` checks."""
    # It takes 0.1 s to load, and most installations never use it.
    from jiffy.dashboard import metrics

    return Response(metrics.exposition(redis_io.shared()), content_type=metrics.CONTENT_TYPE)
