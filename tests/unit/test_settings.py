"""The environment is read in one place, and a wrong value is refused in one line."""

import re

import pytest

from jiffy.errors import InvalidSetting
from jiffy.settings import Settings, read, without_password

HASH = f"scrypt:32768:8:1/salt/{'0' * 128}"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("REDIS_URL", "redis://localhost:many/0", "it must be a redis://"),
        # The client would misread these.
        *[
            ("REDIS_URL", url, "it must be a redis://")
            for url in (
                "redis://host/main",
                "redis://host/0/1",
                "redis://host#0",
                "unix://run/redis.sock",
                "redis:/0",
            )
        ],
        ("REDIS_TLS_VERIFY", "perhaps", "it must be yes or no"),
        ("JIFFY_ENV", "prod", "it must be development or production"),
        ("WEB_CONNECTIONS", "0", "it must be a whole number from 1"),
        ("PORT", "0", "it must be a port from 1 to 65535"),
        ("PORT", "web", "it must be a port from 1 to 65535"),
        ("WORKERS", "2.5", "it must be a whole number from 1"),
        ("JOBS_MODULES", "jobs, my-tasks", "it must be names of modules"),
        ("LOG_LEVEL", "loud", "it must be DEBUG, INFO, WARNING or ERROR"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_it_must_be(name, value, line):
    with pytest.raises(InvalidSetting) as refusal:
        read({name: value})

    assert str(refusal.value).startswith(f"{name} is {value!r}; {line}")
    assert "\n" not in str(refusal.value)


def test_capitals_do_not_matter_where_a_value_is_one_of_several():
    found = read({"LOG_LEVEL": "debug", "JIFFY_ENV": "Development"})

    assert (found.log_level, found.jiffy_env) == ("DEBUG", "development")


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"API_TOKEN": "hunter", "API_READ_TOKEN": "hunter"},
         "API_READ_TOKEN is '***'; it must be different from API_TOKEN, which allows everyth"),
        ({"DASHBOARD_USERS": "bob:viewer,ann:hunter"},
         "DASHBOARD_USERS, user 2, is 'ann:***'; it must be a new name, a role (viewer or oper"),
        ({"DASHBOARD_USERS": "hunter"}, "DASHBOARD_USERS, user 1, is '***'; it must be a new"),
        ({"DASHBOARD_USERS": "ann:viewer"},
         "A user of DASHBOARD_USERS is 'ann'; it must be given a hash, as `jiffy user` prints"),
        ({"DASHBOARD_USERS": f"ann:viewer:{HASH}", "DASHBOARD_USER": "ann",
         "DASHBOARD_PASSWORD": "hunter"},
         "DASHBOARD_USER is 'ann'; it must be none of DASHBOARD_USERS, since it has DASHBOARD_P"),
        ({"AUTH_HEADER": "X-User"},
         "AUTH_HEADER is 'X-User'; it must be set together with TRUSTED_PROXIES, since only a"),
        ({"SECRET_KEY": "hunter"},
         "SECRET_KEY is '***'; it must be at least 32 characters, such as"),
        # As in an old encoding: no one could send them, and each such byte was taken for "?".
        ({"DASHBOARD_PASSWORD": "hunter\udcd0"},
         "DASHBOARD_PASSWORD is '***'; it must be text in UTF-8."),
        ({"SECRET_KEY": "hunter\udcd0" * 8}, "SECRET_KEY is '***'; it must be text in UTF-8."),
        ({"DYNO": "web\udcd0"}, r"DYNO is 'web\udcd0'; it must be text in UTF-8."),
        ({"API_TOKEN": "hunter\udcd0"}, "API_TOKEN is '***'; it must be printable ASCII."),
        ({"API_READ_TOKEN": "huntér"}, "API_READ_TOKEN is '***'; it must be printable ASCII."),
        ({"REDIS_URL": "postgres://me:hunter@host/0"},
         "REDIS_URL is 'postgres://***@host/0'; it mu"),
    ],
)  # fmt: skip
def test_a_secret_that_is_refused_is_not_shown(environ, line):
    with pytest.raises(InvalidSetting) as refusal:
        read(environ)

    assert str(refusal.value).startswith(line)
    assert "hunter" not in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "redis://:hun#ter@host:6379/0",
        "redis://:hun/ter@host:6379/0",
        "redis://:hun?ter@host:6379/0",
        "redis://:hun[ter@host:6379/0",
        "redis://:hun@#ter@host:6379/0",
        "redis://user:12#34@host:6379/0",  # read as port 12 of the host "user"
        "unix://:hun#ter@/run/redis.sock",
        "redis+sentinel://:hun#ter@host:26379/main",
    ],
)
def test_a_raw_character_of_a_password_is_named_and_no_part_of_it_shown(address):
    with pytest.raises(InvalidSetting) as refusal:
        read({"REDIS_URL": address})

    assert "it must be a URL whose password is percent-encoded: # is %23," in str(refusal.value)
    assert not re.search("hun|ter@|12|34", str(refusal.value))


@pytest.mark.parametrize(
    "address",
    [
        "redis://host",
        "redis://:p@ss@host:6379/3",
        "redis://user:p%23ss@[::1]:6379/0?client_name=a@b",
        "unix:///run/@redis/redis.sock?db=1",
        "unix://user:pass@/run/redis.sock",
        "redis+sentinel://:pass@host:1,host:2/main/3?sentinel_password=p@ss",
    ],
)
def test_an_address_that_the_client_reads_as_it_is_meant_is_taken(address):
    assert read({"REDIS_URL": address}).redis_url == address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://me:secret@host/0", "redis://***@host/0"),
        ("me:secret@host", "***@host"),
        ("unix:///s?password=secret&db=1", "unix:///s?password=***&db=1"),
        ("redis+sentinel://h/m?sentinel_password=secret",
         "redis+sentinel://h/m?sentinel_password=***"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_its_passwords(address, shown):
    assert without_password(address) == shown


def test_an_empty_value_counts_as_not_set():
    assert read({"PORT": " ", "REDIS_URL": ""}) == Settings()


def test_values_become_what_the_program_works_with():
    settings = read({"PORT": "5000", "REDIS_TLS_VERIFY": "No", "JOBS_MODULES": "jobs, billing.run"})
    found = (settings.port, settings.redis_tls_verify, settings.jobs_modules)

    assert found == (5000, False, ("jobs", "billing.run"))


@pytest.mark.parametrize(
    ("environ", "is_production"),
    [({}, False), ({"DYNO": "web.1"}, True), ({"JIFFY_ENV": "production"}, True)],
)
def test_a_dyno_is_production_and_so_is_what_says_so(environ, is_production):
    assert read(environ).is_production is is_production
