"""What is decided about Redis before anything connects to it."""

import pytest

from jiffy import connection
from jiffy.errors import InvalidSetting, MissingSetting
from jiffy.settings import Settings

HEROKU_REDIS = "rediss://:secret@ec2-3-85-1-2.compute-1.amazonaws.com:6380"


def test_production_without_a_redis_is_refused_in_words():
    with pytest.raises(MissingSetting, match=r"^REDIS_URL is not set\. Production needs a Redis"):
        connection.redis_url(Settings(dyno="web.1"))


@pytest.mark.parametrize(
    ("config", "url", "verified"),
    [
        (Settings(), "rediss://redis.example:6380", True),
        (Settings(), HEROKU_REDIS, True),
        (Settings(dyno="web.1"), "rediss://redis.example:6380", True),
        (Settings(dyno="web.1"), HEROKU_REDIS, False),
        (Settings(dyno="web.1", redis_tls_verify=True), HEROKU_REDIS, True),
        (Settings(redis_tls_verify=False), "rediss://redis.example:6380", False),
    ],
)
def test_certificates_are_verified_but_for_herokus_own_or_when_told_not_to(config, url, verified):
    assert connection.verifies_tls(config, url) is verified


def test_the_start_up_line_says_that_verification_is_off_and_why():
    on_heroku = Settings(dyno="web.1", redis_url=HEROKU_REDIS)
    told_not_to = Settings(redis_url="rediss://redis.example", redis_tls_verify=False)

    assert connection.describe(on_heroku).endswith("not verified: Heroku's are self-signed)")
    assert connection.describe(told_not_to).endswith("not verified: REDIS_TLS_VERIFY=no)")


def test_the_start_up_line_hides_the_password():
    described = connection.describe(Settings(redis_url="redis://me:secret@redis.example:6379/0"))

    assert described == "redis://***@redis.example:6379/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1:many/main",
        "redis+sentinel://127.0.0.1:26379/main/first",
        "redis://127.0.0.1?no_such_option=1",
        "redis://127.0.0.1?socket_timeout=soon",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_connects(environ, url):
    environ(REDIS_URL=url)

    with pytest.raises(InvalidSetting, match=r"^REDIS_URL is "):
        connection.connect("test")


def test_a_client_is_named_after_its_role_and_dyno(environ):
    environ(DYNO="web.1")

    assert connection.client_name("worker") == "jiffy:worker:web.1"
