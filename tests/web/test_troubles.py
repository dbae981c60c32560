"""A Redis that cannot be used is named on the pages, by the API and by /healthz."""

import html

import pytest
from redis import Redis

from jiffy import redis_io
from jiffy.errors import RedisRefused
from tests.support import troubles
from tests.support.troubles import SECRET, TROUBLES, serving
from tests.web.test_api import ADD

# They take no jobs, but show what is there.
READABLE = (troubles.replica, troubles.cluster)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.start.__name__)
def test_the_cause_and_what_helps_are_shown(trouble, client, api, environ, monkeypatch, tmp_path):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    with trouble.start(tmp_path) as url:
        environ(REDIS_URL=url)
        redis_io.shared.cache_clear()
        health, page = client.get("/healthz"), client.get("/")
        posted, shown = api("POST", "/api/jobs", json=ADD), api("GET", "/api/queues")
        redis_io.shared.cache_clear()

    said = {"posted": posted.json["detail"]}
    if trouble.start not in READABLE:
        said |= {"page": html.unescape(page.text), "shown": shown.json["detail"]}
        assert (page.status_code, shown.status_code) == (503, 503)
    for text in said.values():
        assert f"({trouble.reason}" in text
        assert trouble.remedy in text
        assert SECRET not in text
    assert (health.status_code, posted.status_code) == (503, 503)
    assert health.json["redis"] == ("refused" if trouble.error is RedisRefused else "away")
    assert health.json["reason"].startswith(trouble.reason)
    assert health.json["remedy"].startswith(trouble.remedy)


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/healthz", {}),
        ("POST", "/api/pauses", {"json": {"queue": "low", "why": "tea"}}),
    ],
)
def test_where_a_name_leads_to_another_server_by_now_that_one_is_used(
    api, environ, tmp_path, method, path, options
):
    """After a failover, connections to the old primary go on, and it refuses each change."""
    old, new, name = (tmp_path / name for name in ("old", "new", "name"))
    listens = ["--unixsocketperm", "700", "--unixsocket"]
    name.symlink_to(old)
    with (
        serving(tmp_path, *listens, str(old)) as port,
        serving(tmp_path, *listens, str(new)) as other,
        Redis(port=port, protocol=2) as redis,
    ):
        environ(REDIS_URL=f"unix://{name}")
        redis_io.shared.cache_clear()
        statuses = [api(method, path, **options).status_code]
        redis.replicaof("127.0.0.1", other)
        name.unlink()
        name.symlink_to(new)
        statuses += [api(method, path, **options).status_code for _ in range(2)]
        redis_io.shared.cache_clear()

    assert statuses == [200, 503, 200]
