"""No page without a login, and no change from another site."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from jiffy import enqueue, redis_io
from jiffy.dashboard import auth, create_app
from jiffy.dev import redis_server
from jiffy.errors import MissingSetting
from jobs import numbers
from tests.web.conftest import OWN, PASSWORD, cookie_name, log_in, post

CLOSED = [
    "/",
    "/jobs/x",
    "/rq/",
    "/rq/0/data/queues.json",
    "/rq/static/css/main.css",
    "/no-such-page",
]


@pytest.mark.parametrize("path", CLOSED)
def test_every_page_asks_to_log_in_first(stranger, path):
    answer = stranger.get(path)

    assert (answer.status_code, answer.location) == (302, f"/login?next={path}")


def test_every_address_of_the_app_is_closed_but_the_few_that_are_named(app):
    rules = [rule for rule in app.url_map.iter_rules() if "GET" in rule.methods]
    paths = {rule.endpoint: app.url_map.bind("localhost").build(rule.endpoint, _values(rule), "GET")
             for rule in rules}  # fmt: skip
    answers = {name: app.test_client().get(path).status_code for name, path in paths.items()}
    open_ones = {name for name, status in answers.items() if status not in (302, 401, 403)}

    assert open_ones == auth.PUBLIC & answers.keys()


def test_the_right_password_opens_the_page_that_was_asked_for(stranger):
    answer = log_in(stranger, "/login?next=/jobs/x")

    assert (answer.status_code, answer.location) == (302, "/jobs/x")
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("wrong", [{"password": "guess"}, {"user": "root"}, {"password": ""}])
def test_a_wrong_password_or_user_does_not(stranger, wrong):
    answer = log_in(stranger, **wrong)

    assert answer.status_code == 401
    assert "do not match" in answer.text
    assert stranger.get("/").status_code == 302


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\tb"],
)
def test_a_login_never_leads_to_another_site(stranger, target):
    stranger.get("/login")
    with stranger.session_transaction() as session:
        token = session["token"]
    form = {"user": "admin", "password": PASSWORD, "token": token}
    answer = stranger.post("/login", query_string={"next": target}, data=form, headers=OWN)

    assert answer.location == "/"


def test_answers_fit_into_what_a_proxy_reads_of_their_headers(app, client):
    """nginx reads 4 kB, and answers 502 in place of what was done, or of the form to log in."""
    long, name = "я" * 900, "я" * 200
    enqueue.options(queue=name)(numbers.add, 1, 2)
    answers = [
        app.test_client().get("/jobs", query_string={"q": long}),
        post(client, "/jobs/all", q=long, action="retry"),
        post(client, f"/queues/{name}/pause", why="full"),
    ]

    assert [answer.status_code for answer in answers] == [302, 303, 303]
    assert [one.location[:6] for one in answers] == ["/login", "/jobs", "/queue"]
    assert all(len(str(answer.headers)) < 3500 for answer in answers)


@pytest.mark.parametrize("path", ["/login?next=/", "/rq?"])
def test_no_address_leads_further_than_fits_into_what_a_proxy_reads(client, path):
    assert client.get(path + "a" * 5000).location == "/"


def test_logging_out_ends_that_users_sessions_in_every_browser_and_process(app, client):
    other, elsewhere = app.test_client(), create_app().test_client()
    log_in(other)
    log_in(elsewhere)
    stolen = with_cookie_of(client, create_app().test_client())
    post(client, "/logout")

    assert [each.get("/").status_code for each in (client, other, elsewhere, stolen)] == [302] * 4
    log_in(client)
    assert [each.get("/").status_code for each in (client, stolen)] == [200, 302]


def test_an_ended_session_leads_to_the_form_and_may_change_nothing(app, client, redis):
    assert "Set-Cookie" not in client.get("/").headers  # a refresh could undo a logout
    stolen = with_cookie_of(client, app.test_client())
    post(client, "/logout")

    assert "/login" in client.get("/jobs").location
    again = with_cookie_of(stolen, app.test_client())
    for refused in (post(again, "/login", password="x"), again.post("/jobs/act"),
                    again.get("/static/none")):  # fmt: skip
        assert 'id="strip"' not in refused.text
    assert post(stolen, "/schedule/x/run").location == "/login"
    assert stolen.get("/login").status_code == 200
    assert stolen.get("/", headers={"X-Requested-With": "live"}).status_code == 401


def test_a_redis_that_has_forgotten_the_sessions_ends_them(client, redis):
    redis.flushall()

    assert client.get("/").status_code == 302


def test_a_session_outlives_a_redis_that_was_away(client, redis, environ, redis_address):
    environ(REDIS_URL="redis://127.0.0.1:1/0")
    redis_io.shared.cache_clear()
    assert client.get("/").status_code == 503
    environ(REDIS_URL=redis_address)
    redis_io.shared.cache_clear()

    assert client.get("/").status_code == 200


@pytest.mark.usefixtures("no_redis")
def test_without_redis_strangers_see_the_form_and_nothing_of_redis(stranger):
    assert stranger.get("/").location == "/login?next=/"
    assert stranger.get("/login").status_code == 200
    refused = log_in(stranger)
    assert (refused.status_code, "127.0.0.1:1" in refused.text) == (503, False)
    assert stranger.get("/").status_code == 302


def test_what_a_stranger_is_given_does_not_depend_on_the_password(stranger, environ):
    stranger.get("/login")
    environ(DASHBOARD_PASSWORD="another", DASHBOARD_USER="somebody")
    other = with_cookie_of(stranger, create_app().test_client())
    answer = post(other, "/login", user="somebody", password="another")

    assert (answer.status_code, answer.location) == (302, "/")


def test_a_password_cannot_be_tried_against_a_cookie_without_the_key(client, environ):
    proof = session_of(client)["proof"]
    environ(SECRET_KEY="x" * 32)
    other = create_app().test_client()
    log_in(other)

    assert session_of(other)["user"] == session_of(client)["user"]
    assert session_of(other)["proof"] != proof


@pytest.mark.usefixtures("client")
def test_the_key_alone_opens_nothing(app):
    """Who has SECRET_KEY, but neither the password nor a session, cannot make one."""
    forger = app.test_client()
    for made in ({}, {"proof": ""}, {"proof": "0" * 64}, {"proof": None}):
        with forger.session_transaction() as session:
            session.update({"user": "admin", "token": "t"} | made)
        assert forger.get("/").status_code == 302


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"DASHBOARD_PASSWORD": "another"}, 302),
        ({"DASHBOARD_USER": "ann"}, 302),
        ({"SECRET_KEY": "x" * 32}, 302),
    ],
)
def test_a_session_is_valid_in_every_process_with_the_same_password_user_and_key(
    client, environ, change, status
):
    environ(**change)
    other = with_cookie_of(client, create_app().test_client())

    assert other.get("/").status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Referer": "https://evil.example/localhost"}, 403),
        (OWN, 302),
        ({"Sec-Fetch-Site": "same-origin"}, 302),
        ({"Referer": "http://localhost/x"}, 302),
    ],
)
def test_only_a_page_of_ours_can_change_anything(client, headers, status):
    assert post(client, "/logout", headers=headers).status_code == status
    assert client.get("/").status_code == (200 if status == 403 else 302)


@pytest.mark.parametrize(
    ("site", "use", "status"),
    [
        ("cross-site", "document", 200),  # a link from a chat
        ("same-site", "document", 200),
        ("cross-site", "iframe", 403),
        ("cross-site", "empty", 403),  # fetch()
        ("same-site", "script", 403),  # a sibling's page, whose requests carry the cookie
        ("same-origin", "empty", 200),
        ("none", "document", 200),
    ],
)
def test_another_sites_page_may_lead_to_ours_but_not_load_them(redis, environ, site, use, status):
    """How long one takes to load would tell what it finds; without logins, to every site."""
    environ(DASHBOARD_LOGIN="no")
    client = create_app().test_client()
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": use}

    assert client.get("/jobs?q=secret", headers=headers).status_code == status
    assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender"])
def test_no_page_is_loaded_before_someone_visits_it(client, purpose):
    """A sibling's speculation rules do so with the cookie, and Chromium names no site."""
    headers = {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document", "Sec-Purpose": purpose}

    assert client.get("/jobs?q=secret", headers=headers).status_code == 403
    assert client.get("/jobs?q=secret").status_code == 200


@pytest.mark.parametrize(("origin", "status"), [("http://my_web", 302), ("null", 403)])
def test_a_host_whose_name_has_an_underscore_is_an_origin_too(redis, environ, origin, status):
    environ(DASHBOARD_PASSWORD=PASSWORD, ALLOWED_HOSTS="my_web,localhost")
    client = create_app().test_client()
    client.get("/login")
    headers = {"Host": "my_web", "Origin": origin}
    with client.session_transaction() as session:
        form = {"token": session["token"], "user": "admin", "password": PASSWORD}

    assert client.post("/login", data=form, headers=headers).status_code == status


def test_nothing_changes_without_the_pages_token_nor_by_a_link(client):
    assert client.get("/logout").status_code == 405
    assert client.post("/logout", headers=OWN).status_code == 403
    assert client.post("/logout", headers=OWN, data={"token": "guess"}).status_code == 403


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_that_anyone_may_send_is_small(client, path):
    answer = client.post(path, headers=OWN, data={"token": "x", "password": "x" * 17_000})

    assert answer.status_code == 413
    assert client.get("/").status_code == 200


def test_a_login_without_a_cookie_shows_why_it_failed(app):
    blind = app.test_client(use_cookies=False)
    answer = blind.post("/login", data={"user": "admin", "password": PASSWORD}, headers=OWN)

    assert answer.status_code == 403
    assert "https only" in answer.text


def test_the_cookie_is_out_of_reach_of_scripts_and_in_production_sent_by_https_only(
    stranger, environ
):
    cookie = stranger.get("/login").headers["Set-Cookie"]
    environ(JIFFY_ENV="production", DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=None)
    production = create_app().test_client().get("/login").headers["Set-Cookie"]

    assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert {"HttpOnly", "SameSite=Lax", "Secure"} <= set(production.split("; "))
    assert production.startswith("__Host-")


def test_dashboards_below_two_paths_of_a_host_have_a_cookie_each(redis, environ):
    names = []
    for prefix in ("/shop", "/tools/jobs"):
        environ(JIFFY_ENV="production", DASHBOARD_PASSWORD=PASSWORD, URL_PREFIX=prefix)
        cookie = create_app().test_client().get("/login").headers["Set-Cookie"]
        names.append(cookie.partition("=")[0])

    assert names == ["__Host-jiffy-shop", "__Host-jiffy-tools-jobs"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("DASHBOARD_PASSWORD", "DASHBOARD_PASSWORD is not set"),
        ("SECRET_KEY", r"SECRET_KEY is not set\. .*secrets\.token_hex"),
    ],
)
def test_production_does_not_start_without_a_password_and_a_key(environ, missing, message):
    environ(**{"JIFFY_ENV": "production", "DASHBOARD_PASSWORD": PASSWORD, missing: None})
    with pytest.raises(MissingSetting, match=message):
        create_app()


def test_development_makes_one_key_and_keeps_it_where_only_its_owner_can_read(
    redis, environ, tmp_path, monkeypatch
):
    monkeypatch.setattr(redis_server, "HOME", tmp_path / ".redis")
    environ(SECRET_KEY=None, DASHBOARD_PASSWORD=PASSWORD)
    with ThreadPoolExecutor(3) as pool:
        made = set(pool.map(lambda _: redis_server.secret_key(), range(3)))
    apps = [create_app() for _ in range(2)]
    client = apps[0].test_client()
    log_in(client)
    kept = tmp_path / ".redis" / "secret_key"

    assert [with_cookie_of(client, app.test_client()).get("/").status_code for app in apps] == [
        200
    ] * 2
    assert len(made) == 1
    assert kept.stat().st_mode & 0o777 == 0o600
    assert len(kept.read_text()) == 64


def test_a_key_that_cannot_be_kept_is_asked_for(redis, environ, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(redis_server, "HOME", tmp_path / "file" / ".redis")
    environ(SECRET_KEY=None, DASHBOARD_PASSWORD=PASSWORD)
    with pytest.raises(MissingSetting, match=r"SECRET_KEY is not set\. .*\(Not a directory\): set"):
        create_app()


def test_development_makes_up_a_password_and_prints_it_once(redis, environ, capsys):
    environ(PORT="8123")
    client = create_app().test_client()
    said = capsys.readouterr().err

    assert said.count("\n") == 1
    assert "http://localhost:8123" in said
    password = said.partition("password: ")[2].split()[0]
    assert log_in(client, password=password).status_code == 302


def test_pages_run_no_inline_script_and_load_nothing_from_elsewhere(client):
    policy = client.get("/").headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_scripts_run_by_the_nonce_of_their_answer_alone(client):
    pages = [client.get("/") for _ in range(2)]
    nonces = [re.search("script-src 'nonce-([^']+)';", page.headers["Content-Security-Policy"])[1]
              for page in pages]  # fmt: skip

    assert nonces[0] != nonces[1]
    for page, nonce in zip(pages, nonces, strict=True):
        assert re.findall("<script[^>]*>", page.text) == re.findall(
            f'<script[^>]*nonce="{nonce}"[^>]*>', page.text
        )


@pytest.mark.parametrize(
    ("proxies", "proto"),
    # Of two, the inner one adds nothing to what the outer one has said, or "http".
    [("1", "https"), ("1", "http, https"), ("2", "https"), ("2", "https, http")],
)
def test_behind_tls_browsers_keep_to_it_in_development_too(redis, environ, proxies, proto):
    environ(DASHBOARD_PASSWORD=PASSWORD, TRUSTED_PROXIES=proxies)
    client = create_app().test_client()
    answer = client.get("/login", headers={"X-Forwarded-Proto": proto})

    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")
    assert "Strict-Transport-Security" not in client.get("/login").headers


@pytest.mark.parametrize(
    ("values", "host", "status"),
    [
        ({}, "evil.example", 403),
        ({}, "LOCALHOST:8000", 200),
        ({}, "[::1]:8000", 200),
        ({"ALLOWED_HOSTS": "jobs.example, jobs.internal"}, "jobs.internal:80", 200),
        ({"ALLOWED_HOSTS": "Jobs.Example, 2001:db8::7"}, "jobs.example", 200),
        ({"ALLOWED_HOSTS": "Jobs.Example, 2001:db8::7"}, "[2001:DB8::7]:80", 200),
        ({"ALLOWED_HOSTS": "jobs.example"}, "localhost", 403),
        ({"JIFFY_ENV": "production"}, "any.example", 200),
        ({"TRUSTED_PROXIES": "1"}, "any.example", 200),
        # Another site's name can lead here, and no cookie protects these.
        ({"DASHBOARD_LOGIN": "no", "TRUSTED_PROXIES": "1"}, "any.example", 403),
        ({"DASHBOARD_LOGIN": "no", "TRUSTED_PROXIES": "1"}, "localhost:9", 302),
        ({"ALLOWED_HOSTS": "my_web"}, "my_web:8000", 200),
    ],
)
def test_names_of_other_hosts_are_refused_where_ours_are_known(
    redis, environ, values, host, status
):
    environ(DASHBOARD_PASSWORD=PASSWORD, **values)
    client = create_app().test_client()

    assert client.get("/login", headers={"Host": host}).status_code == status
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_stranger_who_says_it_is_the_pages_script_breaks_no_file(stranger):
    with stranger.get("/static/style.css", headers={"X-Requested-With": "live"}) as answer:
        assert answer.status_code == 200


def test_data_is_kept_out_of_every_cache(client, api):
    for answer in (
        client.get("/"),
        client.get("/rq/0/data/queues.json"),
        api("GET", "/api/jobs/x"),
        client.get("/static/none.css"),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("dyno", "address"), [("web.1", "https://localhost/"), (None, "http://localhost/")]
)
def test_the_proxys_word_is_believed_on_a_dyno_only(redis, environ, dyno, address):
    environ(DYNO=dyno, DASHBOARD_PASSWORD=PASSWORD)
    app = create_app()
    app.add_url_rule("/where", "static_where", lambda: __import__("flask").request.host_url)
    auth.PUBLIC.add("static_where")
    answer = app.test_client().get("/where", headers={"X-Forwarded-Proto": "https"})
    auth.PUBLIC.discard("static_where")

    assert answer.text == address


def with_cookie_of(client, other):
    """`other`, which now shows the session of `client`."""
    cookie = client.get_cookie(cookie_name())
    other.set_cookie(cookie.key, cookie.value)
    return other


def session_of(client):
    """What anybody can read who has the cookie."""
    with client.session_transaction() as session:
        return dict(session)


def _values(rule):
    samples = {"instance_number": 0, "per_page": 8, "page": 1, "order": "asc", "filename": "x",
               "registry_name": "failed"}  # fmt: skip
    return {name: samples.get(name, "x") for name in rule.arguments}
