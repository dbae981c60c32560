"""What is decided about Redis before a process connects to it."""

import pytest

from jiffy import redis_io
from jiffy.errors import InvalidSetting
from jiffy.settings import Settings

HEROKU_REDIS = "rediss://:secret@ec2-3-85-1-2.compute-1.amazonaws.com:6380"


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
def test_certificates_are_verified_but_for_herokus_or_if_set_otherwise(config, url, verified):
    assert redis_io.verifies_tls(config, url) is verified


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"redis_url": "redis://me:secret@redis.example:6379/0"},
         "redis://***@redis.example:6379/0"),
        ({"redis_url": HEROKU_REDIS, "dyno": "web.1"}, "not verified: Heroku's are self-signed)"),
        ({"redis_url": HEROKU_REDIS, "redis_tls_verify": False}, "verified: REDIS_TLS_VERIFY=no)"),
    ],
)  # fmt: skip
def test_the_start_up_line_says_where_redis_is_and_hides_the_password(config, line):
    described = redis_io.describe(Settings(**config))

    assert described.endswith(line)
    assert "secret" not in described


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
        redis_io.connect("test")
