"""A Retry is checked where it is written, and is RQ's own on the wire."""

import json
import subprocess
from decimal import Decimal

import pytest
import rq

from jiffy import Retry, enqueue
from jiffy.errors import InvalidValue
from jiffy.producer.retry import TIMED_OUT, Rules, names_of
from tests.support.unwritten import job_of


class Late(TimeoutError):
    """An exception with parents."""


def made(retry):
    return job_of(enqueue.options(retry=retry))


@pytest.mark.parametrize(
    ("given", "intervals"),
    [
        ({"max": 10}, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]),
        ({"max": 3, "pause": 0}, [0, 0, 0]),
        ({"max": 5, "pause": 2, "limit": "10s"}, [2, 4, 8, 10, 10]),
        ({"max": 3, "pause": 2, "factor": 1.5}, [2, 3, 4]),
        ({"max": 3, "pause": "100ms"}, [1, 1, 1]),
    ],
)
def test_pauses_grow_to_a_limit_and_there_is_one_for_each_try(given, intervals):
    retry = Retry(**given)

    assert (retry.max, retry.intervals) == (given["max"], intervals)


def test_a_thousand_tries_stay_within_the_limit():
    assert Retry(max=1000, pause="1s", factor=10).intervals[-1] == 3600


def test_what_rq_has_no_words_for_is_a_field_of_ours_with_errors_by_name():
    retry = Retry(
        max=3, pause="2s", on=(TimeoutError, subprocess.TimeoutExpired, "IOError", "a.B"),
        fatal=Late,
    )  # fmt: skip

    assert json.loads(made(retry).own_fields["jiffy:retry"]) == {
        "jitter": True,
        "on": ["TimeoutError", "subprocess.TimeoutExpired", "OSError", "a.B"],
        "fatal": [f"{__name__}.Late"],
    }


@pytest.mark.parametrize(
    "retry", [rq.Retry(3), rq.Retry(3, [1, 2, 3]), Retry(3, pause=0), Retry(3, jitter=False)]
)
def test_a_retry_without_jitter_is_rqs_alone(retry):
    assert "jiffy:retry" not in made(retry).own_fields


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max": 3, "pause": -1}, "pause is -1; it must be 0 or more seconds"),
        ({"max": 3, "factor": True}, "factor is True; it must be a number from 1"),
        ({"max": 3, "factor": float("nan")}, "factor is nan; it must be a number from 1"),
        ({"max": 3, "pause": "2h"}, "pause is '2h'; it must be no more than limit, which is"),
        ({"max": 3, "limit": "400d"}, "limit is '400d'; it must be a year at most"),
        ({"max": 3, "jitter": 1}, "jitter is 1; it must be true or false"),
        ({"max": 3, "on": (int,)}, "on is <class 'int'>; it must be an exception"),
        ({"max": 3, "fatal": "TimeuotError"}, "fatal is 'TimeuotError'; it must be an exception"),
        ({"max": 3, "fatal": "builtins.print"}, "fatal is 'builtins.print'; it must be an"),
        ({"max": 3, "fatal": "a b.C"}, "fatal is 'a b.C'; it must be an exception"),
        ({"max": 3, "on": ["a.B"] * 2000}, "on is '2,000 names'; it must be no more than 4,000 "),
        ({"max": 3, "fatal": ["a.B"] * 2000}, "fatal is '2,000 names'; it must be no more than"),
    ],
)
def test_a_wrong_retry_is_refused_in_words(given, words):
    with pytest.raises(InvalidValue) as refusal:
        Retry(**given)

    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize("pause", [float("nan"), float("inf"), Decimal(1)])
def test_a_pause_of_rqs_retry_is_a_number(pause):
    with pytest.raises(InvalidValue, match=r"^retry\.interval is .*; it must be a number"):
        made(rq.Retry(2, [1, pause]))


@pytest.mark.parametrize(
    ("rules", "error", "objection"),
    [
        ({}, ValueError, ""),
        ({"on": TimeoutError}, Late, ""),
        ({"on": "Exception"}, Late, ""),
        ({"on": TimeoutError}, ValueError, "ValueError is not one of its `on` errors"),
        ({"fatal": ValueError}, TimeoutError, ""),
        ({"on": Late, "fatal": OSError}, Late, "OSError is one of its `fatal` errors"),
        ({"on": "rq.timeouts.JobTimeoutException"}, None, ""),
        ({"on": TimeoutError}, None, f"{TIMED_OUT[0]} is not one of its `on` errors"),
    ],
)
def test_an_exception_is_what_it_is_a_kind_of(rules, error, objection):
    names = names_of(error) if error else TIMED_OUT

    assert Rules.read(Retry(max=3, **rules).text).objection(names) == objection
