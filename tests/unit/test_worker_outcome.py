"""What is handed from step to step."""

import pytest
from jiffy.worker.outcome import Taken, func_name_of

from jiffy.worker.child import Stint


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
def test_a_job_is_called_by_its_functions_name_or_by_a_question_mark(call, name):
    assert func_name_of(call) == name


def test_an_execution_tells_the_turn_that_took_it():
    taken = Taken(
        "plain", "one", "0123456789abcdef" + "0000002a" + "00000001", "default", b"", 180, 500
    )

    assert taken.batch == 42


@pytest.mark.parametrize(
    ("stint", "done", "left"),
    [
        (Stint(max_jobs=5), 3, 2),
        (Stint(jobs_per_child=4), 4, 0),
        (Stint(max_jobs=5, jobs_per_child=4), 3, 1),
        (Stint(max_jobs=1), 3, 0),
    ],
)
def test_the_nearest_limit_counts_the_jobs_that_are_left(stint, done, left):
    assert stint.jobs_left(done) == left


def test_without_a_limit_there_is_always_one_more_job():
    assert Stint().jobs_left(10**6) > 10**6
