"""Putting jobs on queues, from Python."""

import pytest

from enqueue import enqueue
from jiffy.errors import DuplicateJob, InvalidValue, NotAllowed, UnknownFunction, WrongArguments
from jobs import numbers

pytestmark = pytest.mark.usefixtures("redis")


def test_a_job_runs_and_its_result_is_kept(work):
    job = enqueue(numbers.add, 2, 3)
    work()

    assert job.return_value() == 5


def test_options_do_not_mix_with_the_functions_own_arguments(work):
    job = enqueue.options(queue="low", timeout="2m", job_id="sum-1")(numbers.add, 2, y=3)

    assert (job.origin, job.timeout, job.id) == ("low", 120, "sum-1")


def test_a_call_that_does_not_fit_the_signature_is_refused_and_nothing_written(redis):
    with pytest.raises(WrongArguments, match="add\\(\\) needs the argument 'y'"):
        enqueue(numbers.add, 2)

    assert redis.keys() == []


def test_an_argument_that_json_cannot_carry_is_refused():
    with pytest.raises(WrongArguments, match="cannot be sent as JSON"):
        enqueue(numbers.add, 2, object())


def test_only_functions_of_the_allowed_modules_are_enqueued():
    import os

    with pytest.raises(NotAllowed, match="not under jobs"):
        enqueue(os.getcwd)


def test_a_wrong_path_is_answered_with_the_nearest_right_one():
    with pytest.raises(UnknownFunction, match=r"Did you mean 'jobs\.numbers\.add'\?"):
        enqueue.by_path("jobs.number.add", 2, 3)


def test_an_id_that_is_taken_is_refused_and_the_first_job_is_left_as_it_was(redis):
    first = enqueue.options(job_id="one")(numbers.add, 2, 3)
    with pytest.raises(DuplicateJob):
        enqueue.options(job_id="one")(numbers.add, 4, 5)

    assert redis.lrange("rq:queue:default", 0, -1) == [b"one"]
    first.refresh()
    assert first.args == [2, 3]


def test_an_unknown_option_names_the_known_ones():
    with pytest.raises(InvalidValue, match="option is 'quue'; it must be one of queue"):
        enqueue.options(quue="low")


def test_a_delayed_job_waits_among_the_scheduled_ones():
    job = enqueue.options(in_="5m")(numbers.add, 2, 3)

    assert job.get_status() == "scheduled"
