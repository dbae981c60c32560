"""A Redis that cannot be used is named on the pages, by the API and by /healthz."""

import html

import pytest

from jiffy import redis_io
from jiffy.errors import RedisRefused
from tests.support import troubles
from tests.support.troubles import SECRET, TROUBLES
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
