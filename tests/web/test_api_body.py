"""What is sent to the API is read strictly, and never breaks it."""

import json
from http.client import HTTPConnection

import pytest

from tests.support.newcomer import PATIENCE_S
from tests.web.conftest import TOKEN
from tests.web.test_api import ADD

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def post(api):
    """POST this body."""
    return lambda raw, kind="application/json": api(
        "POST", "/api/jobs", data=raw, headers={"Content-Type": kind}
    )


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (
            '{"function": "jobs.numbers.add", "args": [NaN, 1]}',
            "args[0] is nan; it must be a finite number.",
        ),
        (
            '{"function": "jobs.numbers.add", "args": [-Infinity, 1]}',
            "args[0] is -inf; it must be a finite number.",
        ),
        (
            '{"function": "jobs.numbers.add", "args": [1e999, 1]}',
            "args[0] is inf; it must be a finite number.",
        ),
        ('{"queue": "a", "queue": "b"}', "the key 'queue' appears twice"),
        ('{"meta": {"a": 1, "a": 1}}', "the key 'a' appears twice"),
        ("[" * 65 + "]" * 65, "nested at most 64 deep"),
        ("[" * 100_000 + "]" * 100_000, "nested more than 64 deep"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested at most 64 deep"),
        (b'{"queue": "\xff"}', "can't decode byte 0xff in position 11"),
        (json.dumps(ADD).encode("utf-16"), "can't decode byte 0xff"),
        (r'{"queue": "\ud800"}', "queue is '\\ud800'; it must be a string without"),
        ("9" * 5000, "The body is not JSON: a number has 5,000 digits; 1,000 are read at most."),
        ("\ufeff{}".encode(), "The body is not JSON"),
        ("", "The body is not JSON"),
        ("null", "The body must be an object"),
        ('"text"', "The body must be an object"),
        ("[1]", "job 1: The body must be an object"),
    ],
)
def test_a_body_that_is_no_plain_json_is_400(post, redis, raw, detail):
    answer = post(raw)

    assert answer.status_code == 400
    assert detail in answer.json["detail"]
    assert redis.dbsize() == 0


def test_a_letter_of_two_halves_is_a_letter(post):
    assert (
        post(r'{"function": "jobs.numbers.add", "args": [1, 2], "queue": "\ud83d\ude00"}').json[
            "queue"
        ]
        == "\N{GRINNING FACE}"
    )


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin-1"],
)
def test_what_is_not_declared_as_json_in_utf_8_is_415(post, kind):
    assert post(json.dumps(ADD), kind).status_code == 415


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/vnd.x+json"])
def test_json_by_its_other_names_is_taken(post, kind):
    assert post(json.dumps(ADD), kind).status_code == 202


def test_a_large_value_is_not_sent_back_whole(api):
    answer = api("POST", "/api/jobs", json=ADD | {"timeout": "x" * 500_000})

    assert answer.status_code == 422
    assert len(answer.data) < 5000


@pytest.mark.parametrize("name", ["in", "timeout", "ttl", "result_ttl", "unique", "expires"])
@pytest.mark.parametrize("given", [1e300, "9999999999999w", 10**30])
def test_a_duration_of_more_than_100_years_is_422(api, redis, name, given):
    answer = api("POST", "/api/jobs", json=ADD | {name: given})

    assert answer.status_code == 422
    assert "100 years at most" in answer.json["detail"]
    assert redis.dbsize() == 0


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00-14:00", "9999-12-31T23:59:59+14:00", "2099-01-31T06:00:00Z"]
)
def test_any_time_of_the_calendar_is_taken_and_shown(api, at):
    answer = api("POST", "/api/jobs", json=ADD | {"at": at})

    assert answer.status_code == 202
    assert api("GET", answer.json["status_url"]).status_code == 200


@pytest.mark.parametrize(
    "at",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59.999999Z",
    ],
)
def test_a_time_that_no_calendar_has_in_utc_is_422(api, redis, at):
    answer = api("POST", "/api/jobs", json=ADD | {"at": at})

    assert (answer.status_code, redis.dbsize()) == (422, 0)
    assert "it must be in the years 1 to 9999 of UTC." in answer.json["detail"]


@pytest.mark.parametrize("size", [900_000, 1_500_000])
def test_a_body_that_does_not_tell_its_size_is_bounded_too(live, size):
    line = HTTPConnection(live.removeprefix("http://"), timeout=PATIENCE_S)
    raw = json.dumps(ADD).encode() + b" " * size
    pieces = (raw[start : start + 65536] for start in range(0, len(raw), 65536))
    line.request("POST", "/api/jobs", pieces, {"Authorization": f"Bearer {TOKEN}", **JSON})
    answer = line.getresponse()
    answer.read()
    line.close()

    assert answer.status == (202 if size < 1_000_000 else 413)
