"""The API's document: it is valid, complete, and what answers keeps to it."""

import json
import re
import subprocess
import sys
from collections import Counter

import flask
import jsonschema
import openapi_spec_validator as validator
import pytest
from werkzeug.security import generate_password_hash

from jiffy.dashboard import api as routes
from jiffy.dashboard import auth
from tests.support.worker_processes import Dyno
from tests.web.conftest import PASSWORD, TOKEN, cookie_name, log_in


@pytest.fixture
def document(api):
    return api("GET", "/api/openapi.json").json


@pytest.fixture
def worker(redis, tmp_path):
    dyno = Dyno(tmp_path, ["-n", "1"], {"JOBS_MODULES": "jobs"})
    yield dyno
    dyno.end()


def operations(document):
    """(method, path, operation) of each."""
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield method.upper(), path, item[method]


def test_it_is_a_valid_document_of_openapi_3_1(document):
    validator.validate(document, cls=validator.OpenAPIV31SpecValidator)

    assert document["openapi"] == "3.1.0"


def test_it_has_every_address_of_the_api_and_no_other(app, document):
    there = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert {(method, path) for method, path, _ in operations(document)} == there


def test_its_examples_keep_to_its_schemas(document):
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        if "example" in schema:
            whole = {"components": document["components"], **schema}
            jsonschema.Draft202012Validator(whole).validate(schema["example"])

    assert sum("example" in schema for schema in schemas.values()) >= 5


def test_what_changes_something_asks_for_the_token_that_may(document):
    reads = {"GET": [{"token": []}, {"readToken": []}]}

    for method, _, operation in operations(document):
        assert operation["security"] == reads.get(method, [{"token": []}])


def test_every_refusal_is_described_where_it_can_happen(document):
    for method, path, operation in operations(document):
        expected = {"401", "403", "503"} | ({"404"} if "{job_id}" in path else set())

        assert operation["responses"].keys() >= expected, (method, path)


@pytest.fixture
def all_slots_taken():
    """All places for those who wait are taken."""
    for _ in range(routes.MOST_WAITING):
        routes._slots.acquire()
    yield
    routes._slots.release(routes.MOST_WAITING)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_is_sent_nothing_breaks_and_every_answer_keeps_to_the_document(
    live, worker, tmp_path
):
    ended = send_everything(live, tmp_path)

    assert ended.returncode == 0, ended.stdout
    assert re.search(r"(\d+) selected / \1 total", ended.stdout)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nor_does_any_operation_on_one_job(live, plant, all_slots_taken, tmp_path):
    job_id = plant("job1", status="failed", error="boom")
    (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.job_id" = "{job_id}"\n')
    ended = send_everything(live, tmp_path)

    assert ended.returncode == 0, ended.stdout


@pytest.fixture
def answers(environ, request):
    """Counts the answers of `app` by method and status; ann is an operator."""
    secret = generate_password_hash(PASSWORD).replace("$", "/")
    environ(API_READ_TOKEN="reads", DASHBOARD_USERS=f"ann:operator:{secret}")
    counts = Counter()

    def count(response):
        if auth.is_api():  # not what it looks at first: whether the server answers
            counts[flask.request.method, response.status_code] += 1
        return response

    request.getfixturevalue("app").after_request(count)
    return counts


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["nobody", "ann", "read token"])
def test_without_the_token_that_may_change_nothing_changes(
    answers, app, live, document, world, tmp_path, role
):
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    header, client = "Authorization: Bearer reads", app.test_client()
    if role != "read token":
        log_in(client, user=role)
        cookie = client.get_cookie(cookie_name())
        header = f"Cookie: {cookie.key}={cookie.value}"
    before = world()
    answers.clear()
    ended = send_everything(
        live, tmp_path, header, "openapi.json", "--url", live, "--max-examples", "3",
        "--phases", "examples,coverage,fuzzing",
        "--checks", "not_a_server_error,content_type_conformance,response_schema_conformance",
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout
    assert world() == before
    changes = {status for method, status in answers if method not in auth.SAFE_METHODS}
    # It also leaves the token out.
    assert changes == ({401, 403} if role == "read token" else {401})
    assert bool(answers["GET", 200]) == (role == "read token")
    assert answers.total() > 300


def send_everything(address, folder, header=f"Authorization: Bearer {TOKEN}", document=None, *more):
    """Call the API with all that its document allows, and with what it does not."""
    # Not every path that could be a function's is one; and a canceled job is still there.
    beside = "positive_data_acceptance,use_after_free"
    command = [
        sys.executable, "-m", "schemathesis.cli", "run",
        document or f"{address}/api/openapi.json", "--header", header, "--exclude-checks", beside,
        "--mode", "all", "--max-examples", "40", "--request-timeout", "90", "--no-color", *more,
    ]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
