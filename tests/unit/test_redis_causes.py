"""What servers and clients say of their troubles, and what we make of it."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jiffy import redis_causes, redis_io

# What cannot be had from a server on this machine: others' words, and what is rare.
SAID = [
    (NoPermissionError("User guest has no permissions to run the 'client|setname' command"),
     "its user may not run the 'client|setname' command"),
    (NoPermissionError("this user has no permissions to access one of the keys used as arguments"),
     "its user may not access one of the keys used as arguments"),
    (ResponseError("The user executing the script can't run this command or subcommand"),
     "its user lacks permissions"),
    (ResponseError("DENIED Redis is running in protected mode because protected mode is"),
     "it is in protected mode: only clients on its own machine may connect"),
    (RedisConnectionError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate"),
     "it requires a client certificate"),
    (ResponseError("MISCONF Redis is configured to save RDB"), "it cannot write to its disk"),
    (ResponseError("NOREPLICAS Not enough good replicas"), "it has too few replicas to write"),
    (ResponseError("Error running script: @user_script:1: -BUSY Redis is busy running a script"),
     "it is running a long script"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "reason"), SAID, ids=[reason for _, reason in SAID])
def test_it_is_known_by_its_words(error, reason):
    assert redis_causes.find(error).reason == reason


def test_an_answer_is_no_cause_of_a_line_that_falls_silent_after_it():
    try:
        try:
            raise NoScriptError("NOSCRIPT No matching script.")
        except NoScriptError:
            raise RedisTimeoutError("no answer in 10 s")  # noqa: B904 - as where scripts are loaded
    except RedisTimeoutError as error:
        silent = error

    assert redis_io.reason_of(silent) == "no answer in 10 s"
