"""The dashboard of any Redis: without a login, read-only, and behind proxies."""

import re

import pytest
import rq

from jiffy import keys, redis_io
from jiffy.dashboard import create_app
from jiffy.errors import InvalidSetting
from jiffy.settings import settings
from tests.web.conftest import PASSWORD, TOKEN, log_in, post

PAGES = [
    "/",
    "/jobs",
    "/queues",
    "/queues/default",
    "/workers",
    "/schedule",
    "/system",
    "/new",
    "/new?function=jobs.numbers.add",
]


@pytest.fixture
def made(redis, environ, monkeypatch):
    """A client of an app with these settings."""

    def make(**values):
        environ(**values)
        monkeypatch.setattr(redis_io, "_is_web", False)  # it is so again when the test is over
        return create_app().test_client()

    yield make
    redis_io.shared.cache_clear()


@pytest.fixture
def stock(redis):
    """What a shop with RQ alone has, pickled."""
    queue = rq.Queue(connection=redis)
    queue.enqueue("shop.charge", 7)
    queue.failed_job_registry.add(queue.enqueue("shop.refund", 8), ttl=-1)


def test_a_stock_redis_is_shown_without_a_login_on_loopback(made, stock):
    client = made(DASHBOARD_LOGIN="no")
    answers = {path: client.get(path) for path in PAGES}

    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(
        PAGES, 200
    )
    assert "shop.charge" in answers["/"].text


def test_without_a_login_no_other_sites_name_shows_anything(made):
    client = made(DASHBOARD_LOGIN="no")

    assert client.get("/", headers={"Host": "evil.example:8000"}).status_code == 403
    assert client.get("/", headers={"Host": "127.0.0.1:8000"}).status_code == 200


def test_without_a_login_no_other_machine_is_shown_anything_on_any_address(made):
    client = made(DASHBOARD_LOGIN="no", TRUSTED_PROXIES="1")
    beside = {"environ_base": {"REMOTE_ADDR": "192.168.1.7"}}
    paths = [*PAGES, "/rq/", "/login"]

    assert {client.get(path, **beside).status_code for path in paths} == {403}
    assert client.get("/", headers={"X-Forwarded-For": "192.168.1.7"}).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"HOST": "0.0.0.0"},
        {"JIFFY_ENV": "production"},
        # Those whom the proxy names are viewers, and one without a name would be an operator.
        {"AUTH_HEADER": "X-User", "TRUSTED_PROXIES": "1", "DASHBOARD_USERS": "*:viewer"},
    ],
)
def test_only_on_loopback_in_development_is_there_no_login(environ, more):
    environ(DASHBOARD_LOGIN="no", **more)

    with pytest.raises(InvalidSetting, match="DASHBOARD_LOGIN is 'no'; it must be yes, unless"):
        settings()


def test_a_read_only_dashboard_changes_nothing_and_has_no_buttons(made, plant, redis):
    plant("one", status="queued")
    plant("bad", status="failed", error="boom")
    client = made(DASHBOARD_LOGIN="no", READ_ONLY="yes", API_TOKEN=TOKEN)
    texts = [client.get(path).text for path in [*PAGES, "/jobs/bad"]]
    token = {"Authorization": f"Bearer {TOKEN}"}
    statuses = [
        post(client, "/queues/default/pause", why="x").status_code,
        client.post("/api/jobs", json={"function": "jobs.numbers.add"}, headers=token).status_code,
        client.post("/rq/job/bad/delete").status_code,
    ]

    assert statuses == [403, 403, 403]
    assert redis.exists(keys.job("bad"), keys.PAUSED) == 1
    forms = [
        form for text in texts for form in re.findall('<form method="post" action="([^"]*)', text)
    ]
    assert set(forms) <= {"/logout"}
    assert not [text for text in texts if "/jobs/all" in text]


@pytest.mark.parametrize(
    ("values", "headers", "path"),
    [
        ({"URL_PREFIX": "/tools/jobs"}, {}, "/tools/jobs"),
        ({"URL_PREFIX": "/tools/jobs"}, {}, ""),  # the proxy has removed it
        ({"TRUSTED_PROXIES": "1"}, {"X-Forwarded-Prefix": "/tools/jobs"}, ""),
        ({"TRUSTED_PROXIES": "2"}, {"X-Forwarded-Prefix": "/tools/jobs"}, ""),  # of the outer one
        ({"TRUSTED_PROXIES": "1", "URL_PREFIX": "/tools/jobs"}, {"X-Forwarded-Prefix": "/x"}, ""),
    ],
)
def test_every_link_asset_and_redirect_stays_below_the_prefix(made, stock, values, headers, path):
    client = made(DASHBOARD_PASSWORD=PASSWORD, **values)
    asked = client.get(f"{path}/queues", headers=headers)
    login = f"{path}/login?next=/queues"
    client.get(login, headers=headers)
    with client.session_transaction() as session:
        fields = {"user": "admin", "password": PASSWORD, "token": session["token"]}
    entered = client.post(login, data=fields, headers={"Origin": "http://localhost", **headers})
    links = [
        link
        for page in PAGES
        for link in re.findall(
            r'(?:href|src|action)="(/[^"]*)', client.get(f"{path}{page}", headers=headers).text
        )
    ]

    assert asked.location == "/tools/jobs/login?next=/queues"
    assert entered.location == "/tools/jobs/queues"
    assert [link for link in links if not link.startswith("/tools/jobs/")] == []


def test_headers_of_proxies_are_believed_only_as_far_as_the_setting_says(made):
    headers = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "https"}
    client = made(DASHBOARD_PASSWORD=PASSWORD)
    log_in(client)

    assert 'href="/evil' not in client.get("/", headers=headers).text


@pytest.mark.parametrize("prefix", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_no_prefix_of_a_client_leads_to_another_site(made, prefix):
    client = made(DASHBOARD_PASSWORD=PASSWORD, TRUSTED_PROXIES="1")
    answer = client.get("/jobs", headers={"X-Forwarded-Prefix": prefix})

    assert answer.location == "/login?next=/jobs"
