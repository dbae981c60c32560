"""What Prometheus comes for; with a token of the API, as tokens.py sees to."""

from flask import Blueprint, Response

from jiffy import connection

page = Blueprint("metrics", __name__)


@page.get("/metrics")
def metrics() -> Response:
    # It takes 0.1 s to load, and most installations never ask.
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

    from jiffy.dashboard.metrics import text

    return Response(text(connection.shared()), content_type=CONTENT_TYPE_PLAIN_0_0_4)
