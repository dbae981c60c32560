"""Who may call the API: two tokens, one of which may only read."""

import pytest

from jiffy.dashboard import create_app
from tests.web.conftest import PASSWORD
from tests.web.test_api import ADD


@pytest.fixture
def call(redis, environ):
    """Call an API with these tokens set: `call("GET", path, token, API_TOKEN="x")`."""

    def send(method, path, token=None, **tokens):
        environ(DASHBOARD_PASSWORD=PASSWORD, **tokens)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        client = create_app().test_client()
        return client.open(path, method=method, headers=headers, json=ADD)

    return send


BOTH = {"API_TOKEN": "all", "API_READ_TOKEN": "reads"}
CHANGES = [
    ("POST", "/api/jobs"), ("DELETE", "/api/jobs/x"), ("POST", "/api/jobs/x/retry"),
    ("POST", "/api/jobs/x/stop"),
]  # fmt: skip
READS = ["/api/queues", "/api/functions", "/api/openapi.json"]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("token", ["all", "reads"])
def test_either_token_reads(call, path, token):
    assert call("GET", path, token, **BOTH).status_code == 200


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_the_reading_one_changes_nothing(call, redis, method, path):
    answer = call(method, path, "reads", **BOTH)

    assert answer.status_code == 403
    assert answer.json["detail"] == (
        "This token may only read; to change something, send that of API_TOKEN."
    )
    assert redis.dbsize() == 0


def test_the_other_one_changes(call):
    assert call("POST", "/api/jobs", "all", **BOTH).status_code == 202


def test_with_the_reading_one_alone_the_api_can_be_read_and_no_more(call):
    assert call("GET", "/api/queues", "reads", API_READ_TOKEN="reads").status_code == 200
    assert call("POST", "/api/jobs", "reads", API_READ_TOKEN="reads").status_code == 403


@pytest.mark.parametrize("path", [*READS, "/api/jobs/x", "/api/no-such-address", "/api/"])
@pytest.mark.parametrize("token", [None, "wrong", "", "é"])
def test_without_a_known_token_it_is_401(call, path, token):
    answer = call("GET", path, token, **BOTH)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Jiffy API"'


def test_without_any_set_all_is_closed(call):
    answer = call("GET", "/api/queues", "", API_TOKEN=None)

    assert (answer.status_code, answer.json["detail"]) == (403, "The API is closed: set API_TOKEN.")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/jobs/x", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/api/jobs", "OPTIONS, POST"),
        ("GET", "/api/jobs/x/stop", "OPTIONS, POST"),
        ("DELETE", "/api/queues", "GET, HEAD, OPTIONS"),
    ],
)
def test_the_wrong_method_is_405_and_says_which_are_right(call, method, path, allowed):
    answer = call(method, path, "all", **BOTH)

    assert answer.status_code == 405
    assert ", ".join(sorted(answer.headers["Allow"].split(", "))) == allowed
    assert answer.json["detail"] == (
        f"{path} has no {method}, but {answer.headers['Allow']}. Nothing was done."
    )


def test_head_and_options_answer_without_a_body(call):
    head = call("HEAD", "/api/queues", "reads", **BOTH)
    options = call("OPTIONS", "/api/jobs", "reads", **BOTH)

    assert (head.status_code, head.data, options.status_code, options.data) == (200, b"", 200, b"")
