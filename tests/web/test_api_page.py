"""docs/api.md keeps its word: what it says to type works, and what it lists is all there is."""

import re
import shutil
import subprocess

import pytest
from rq.job import JobStatus

from jiffy import keys
from jiffy.dashboard.openapi import PROBLEMS
from tests.support.newcomer import CHECKOUT
from tests.web.conftest import TOKEN

PAGE = (CHECKOUT / "docs/api.md").read_text()
SETS, *BLOCKS = re.findall(r"^```shell\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def type_in(block, address):
    """Type it after the lines that set the variables; a refusal is an error."""
    sets = SETS.replace("http://127.0.0.1:8000", address)
    words = sets.replace("the-token-that-make-run-has-printed", TOKEN) + block
    command = ["bash", "-ec", words.replace("curl -s ", "curl -sSf ")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_everything_on_it_can_be_typed(live, work, plant_worker, redis):
    plant_worker("one")  # acting on many jobs is refused where no worker runs
    redis.zadd(keys.LEASES, {"one": 9e9})
    for block in BLOCKS:
        ended = type_in(block, live)
        work()

        assert (ended.returncode, ended.stderr) == (0, ""), block


def test_it_knows_every_state_that_a_job_can_have():
    for status in set(JobStatus) - {JobStatus.CREATED}:
        assert re.search(rf"^\|.*`{status.value}`.*\|", PAGE, re.MULTILINE), status


def test_it_knows_every_metric(api):
    families = re.findall(r"^# TYPE (\w+) (\w+)$", api("GET", "/metrics").text, re.MULTILINE)
    listed = set(re.findall(r"`(jiffy_\w+)`", PAGE)) - {"jiffy_schedule_next_due_seconds"}

    assert {name for name, _ in families} == listed  # and that one where anything is due


def test_it_knows_every_address_of_the_schedule(app):
    rules = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/schedule")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert set(re.findall(r"^(GET|POST) +(/api/schedule\S*)", PAGE, re.MULTILINE)) == rules


def test_it_knows_every_status_of_a_refusal():
    listed = re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", PAGE, re.MULTILINE)

    assert {code for codes in listed for code in codes.split(", ")} == {*map(str, PROBLEMS)}
