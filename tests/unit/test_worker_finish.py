"""What an outcome means for its job: the plan that finish.lua carries out."""

import json

import pytest
import rq

import jiffy
from jiffy import keys
from jiffy.worker import finish
from jiffy.worker.child import Stint
from jiffy.worker.claim import LONGEST_S, Claimed
from jiffy.worker.finish import DETAILS, NO_DETAILS, Details, Outcome
from jiffy.worker.run import func_name_of

JOB = Claimed("full", "one", "0123456789abcdef" + "0000002a" + "00000007", "low", b"", 180, 500)
STATUS, TTL_S, KIND, RESULT, MORE = 3, 8, 9, 10, 11


def details(**fields):
    values = {name.replace("__", ":"): f"{value}".encode() for name, value in fields.items()}
    return Details([values.get(name) for name in DETAILS])


def plan(what, found=NO_DETAILS, **fields):
    """The plan for an outcome: its status, and its rare fields."""
    row = json.loads(finish.row(Outcome(JOB, "f", 1.5, 2.25, what, details=found, **fields)))
    return row[STATUS], (row[MORE:] or [{}])[0]


def test_a_plan_says_whose_outcome_it_is_when_and_what_it_was():
    outcome = Outcome(JOB, "f", 1.5, 2.25, "finished", b'"\xc3\xa4"')

    assert json.loads(finish.row(outcome)) == [
        "low", "one", JOB.execution, "finished", "1970-01-01T00:00:01.500000Z",
        "1970-01-01T00:00:02.250000Z", "1.5", "2.25", 500, 1, "IsOkIg==",
    ]  # fmt: skip
    assert (JOB.batch, JOB.position) == (42, 7)


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


@pytest.mark.parametrize(
    ("rules", "names", "becomes"),
    [
        ({"on": ["ValueError"]}, ("ValueError", "Exception"), "retried"),
        ({"on": ["Exception"]}, ("ValueError", "Exception"), "retried"),
        ({"on": ["OSError"]}, ("ValueError", "Exception"), "failed"),
        ({"on": ["OSError"]}, (), "failed"),
        ({"fatal": ["Exception"]}, ("ValueError", "Exception"), "failed"),
        ({"on": ["ValueError"], "fatal": ["ValueError"]}, ("ValueError",), "failed"),
        ({"on": "ValueError"}, ("OSError",), "retried"),  # no list: it rules nothing
    ],
)
def test_an_error_decides_whether_there_is_another_try(rules, names, becomes):
    found = details(retries_left=1, jiffy__retry=json.dumps(rules))

    assert plan("failed", found, error_names=names)[0] == becomes


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
    ("intervals", "delay_s", "rest"),
    [("[0]", 0, [0]), ("[60]", 60, [60]), ("[10, 20]", 10, [20]), ("", 0, [0]), ("x", 0, [0])],
)
def test_a_finished_job_repeats_after_the_first_of_its_intervals(intervals, delay_s, rest):
    found = details(repeats_left=2, repeat_intervals=intervals)
    status, more = plan("finished", found)

    assert (status, more["delay_s"]) == ("finished", delay_s)
    assert more["set"] == ["repeats_left", 1, "repeat_intervals", json.dumps(rest)]


@pytest.mark.parametrize("left", [0, -3, "x", ""])
def test_without_repeats_left_it_does_not(left):
    assert plan("finished", details(repeats_left=left))[1] == {}


@pytest.mark.parametrize("what", ["failed", "stopped", "retried", "requeued"])
def test_only_a_finished_job_repeats(what):
    more = plan(what, details(repeats_left=2), retry=rq.Retry(1, 60))[1]

    assert "repeats_left" not in more.get("set", [])


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


@pytest.mark.parametrize(
    ("stint", "done", "left"),
    [
        (Stint(max_jobs=5), 3, 2),
        (Stint(jobs_per_child=4), 4, 0),
        (Stint(max_jobs=5, jobs_per_child=4), 3, 1),
        (Stint(max_jobs=1), 3, 0),
        (Stint(), 10**6, 1 << 30),
    ],
)
def test_the_nearest_limit_counts_the_jobs_that_are_left(stint, done, left):
    assert stint.jobs_left(done) == left
