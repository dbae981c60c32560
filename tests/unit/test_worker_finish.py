"""What an outcome means for its job: the plan that finish.lua carries out."""

import json

import pytest
import rq

import jiffy
from jiffy import keys
from jiffy.worker import finish
from jiffy.worker.claim import LONGEST_S, Claimed
from jiffy.worker.finish import DETAILS, NO_DETAILS, Details, Outcome
from jiffy.worker.run import func_name_of

JOB = Claimed("full", "one", "0123456789abcdef" + "0000002a" + "00000007", "low", b"", 180, 500)
STATUS, MORE = 3, 12


def details(**fields):
    values = {name.replace("__", ":"): f"{value}".encode() for name, value in fields.items()}
    return Details([values.get(name) for name in DETAILS])


def plan(what, found=NO_DETAILS, **fields):
    """The plan for an outcome: its status, and its rare fields."""
    row = json.loads(finish.row(Outcome(JOB, "f", 1.5, 2.25, what, details=found, **fields)))
    return row[STATUS], (row[MORE:] or [{}])[0]


@pytest.mark.parametrize("odd", ['"', "\\", "ä", "\n", "\x00"])
def test_odd_names_go_through_a_plan_unharmed(odd):
    job = Claimed("plain", odd, odd, odd, b"", 180, 500)

    assert json.loads(finish.row(Outcome(job, "f", 0, 0, "finished")))[:3] == [odd] * 3


@pytest.mark.parametrize(
    ("intervals", "left", "delay_s"),
    [
        ("[0]", 3, 0),
        ("[60]", 3, 60),
        ("[10, 20, 30]", 3, 10),
        ("[10, 20, 30]", 2, 20),
        ("[10, 20, 30]", 1, 30),
        ("[10, 20]", 3, 10),  # as RQ: a list that is shorter repeats its first
        ("", 1, 0),
        ("[10, 20", 1, 0),
        ("[1e999]", 1, 0),
        ('["x"]', 1, 0),
        ("7", 1, 0),
        (f"[{'9' * 400}]", 1, LONGEST_S),
    ],
)
@pytest.mark.parametrize("front", ["", "1"])
def test_a_failed_try_is_followed_by_the_next_after_its_interval(intervals, left, delay_s, front):
    found = details(retries_left=left, retry_intervals=intervals, enqueue_at_front_on_retry=front)
    status, more = plan("failed", found, error="It broke.")

    assert status == "retried"
    assert (more["again"], more["delay_s"]) == ("scheduled" if delay_s else "queued", delay_s)
    assert more.get("front", False) == (front == "1")
    assert more["set"] == ["retries_left", left - 1, keys.REASON_FIELD, "It broke."]


@pytest.mark.parametrize(
    "fields",
    [{}, {"retries_left": 0}, {"retries_left": -1}, {"retries_left": "x"}, {"retries_left": ""}],
)
def test_a_failed_try_without_another_is_the_end(fields):
    assert plan("failed", details(**fields))[0] == "failed"


def test_what_cannot_succeed_the_next_time_is_not_tried_again():
    assert plan("failed", details(retries_left=3), may_retry=False)[0] == "failed"


@pytest.mark.parametrize(
    ("retry", "had", "then"),
    [
        (rq.Retry(2), "", ("retried", "queued", 0)),
        (rq.Retry(2), 1, ("retried", "queued", 0)),
        (rq.Retry(2), 2, ("failed", None, None)),
        (rq.Retry(2), "x", ("retried", "queued", 0)),
        (rq.Retry(3, [10, 20, 30]), 1, ("retried", "scheduled", 20)),
        (rq.Retry(3, 60), 2, ("retried", "scheduled", 60)),
        (jiffy.Retry(3, pause="10s", jitter=False), 1, ("retried", "scheduled", 20)),
    ],
)
def test_a_job_that_returns_a_retry_runs_again_as_often_as_that_says(retry, had, then):
    status, more = plan("retried", details(number_of_retries=had), retry=retry)

    assert (status, more.get("again"), more.get("delay_s")) == then
    if status == "retried":
        assert more["set"] == ["number_of_retries", int(had if had != "x" and had else 0) + 1]


def test_a_returned_retry_may_put_its_job_at_the_front():
    more = plan("retried", details(), retry=rq.Retry(1, enqueue_at_front=True))[1]

    assert more["front"] is True
    assert more["set"] == ["number_of_retries", 1, "enqueue_at_front_on_retry", 1]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (["jobs.numbers.add", None, [2, 3], {}], "jobs.numbers.add"),
        (("jobs.numbers.add", None, (), {}), "jobs.numbers.add"),
        ([], "?"),
        ([None, None, [], {}], "?"),
        ({"function": "jobs.numbers.add"}, "?"),
        ("jobs.numbers.add", "?"),
        (None, "?"),
    ],
)
def test_the_log_names_a_jobs_function_or_a_question_mark(call, name):
    assert func_name_of(call) == name
