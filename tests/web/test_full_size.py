"""Every page of a Redis with millions of jobs: it costs a fixed number of round trips."""

import pytest
from redis.connection import AbstractConnection

from jiffy import redis_io
from jiffy.dashboard import create_app, frame
from tests.support import full_size
from tests.web.conftest import PASSWORD, TOKEN, log_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MOST_ROUND_TRIPS = 6  # one asks whether the session is still valid, one how large minutes are
# 300 queues in 8 states with the age of their oldest job, and 500 workers.
COUNTING = 300 * 10 + 500 + 30
PAGES = {
    "/": COUNTING + 3500,
    "/?span=24h": COUNTING + 3500,
    "/queues": COUNTING,
    "/queues/queue-007": COUNTING + 200,
    "/workers": COUNTING + 1200,  # two for each worker: one asks whether it is there
    "/schedule": COUNTING,
    "/system": COUNTING + 1300,  # 600 of them measure the history
    "/jobs": COUNTING + 3500,
    "/jobs?q=state:failed": COUNTING + 3500,
    "/failures": COUNTING + 3000,
    "/jobs?q=args.order_id:7+declined": COUNTING + 3000,
    "/jobs/failed-0000007": COUNTING + 100,  # two for each minute of its function's history, too
    "/api/queues": COUNTING,
    "/metrics": COUNTING,
}


def test_no_page_costs_more_for_millions_of_jobs(redis, environ, monkeypatch):
    environ(DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=TOKEN)
    full_size.plant(redis)
    monkeypatch.setattr(redis_io, "_is_web", False)  # it is so again when the test is over
    # On a slow machine a page reads what is kept twice, or has to connect again.
    for module, lasts in ((frame, "CURRENT_S"), (frame, "_DONE_S"), (redis_io, "IDLE_S")):
        monkeypatch.setattr(module, lasts, 600)
    sent = count_sends(monkeypatch)
    client, found = create_app().test_client(), {}
    log_in(client)
    for path in ("/", "/workers", *PAGES):  # from the third one on, Redis knows the scripts
        client.application.extensions["jiffy.census"].forget()
        before = commands(redis)
        sent.clear()
        answer = client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
        found[path] = (answer.status_code, len(sent), commands(redis) - before)

    for path, (status, trips, cost) in found.items():
        assert status == 200, path
        is_job = path.startswith("/jobs/")  # it asks what stands in its way, too
        assert trips <= MOST_ROUND_TRIPS + is_job, (path, trips)
        assert cost <= PAGES[path], (path, cost)


def count_sends(monkeypatch):
    """A list that grows by one with each write to Redis, whose reply is waited for."""
    sent, send = [], AbstractConnection.send_packed_command

    def counted(self, *args, **options):
        sent.append(1)
        return send(self, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return sent


def commands(redis):
    return redis.info("stats")["total_commands_processed"]
