"""Putting jobs on queues, from Python."""

import pytest
from rq.job import JobStatus

import scheduler
from enqueue import OPTIONS, enqueue
from jiffy import Retry, find_job, keys, wait
from jiffy.errors import (
    DuplicateJob,
    InvalidValue,
    JobFailed,
    NotAllowed,
    UnknownFunction,
    WrongArguments,
)
from jiffy.scheduler.entry import read
from jobs import images, numbers, reports

pytestmark = pytest.mark.usefixtures("redis")


def test_a_job_runs_and_its_result_is_kept(work):
    job = enqueue(numbers.add, 2, 3)
    work()

    assert job.return_value() == 5


@pytest.mark.parametrize("find", [lambda job: job, lambda job: find_job(job.id)])
def test_a_status_is_printed_as_a_word_and_equals_rqs(find, work):
    job = enqueue(numbers.add, 2, 3)
    before = find(job).get_status()
    work()
    status = find(job).get_status()

    assert (str(before), f"{status}", status.value) == ("queued", "finished", "finished")
    assert status == JobStatus.FINISHED == status == "finished"
    assert {JobStatus.FINISHED: 1}[status] == {"finished": 1}[status] == 1
    assert find(job).get_status(refresh=False) == "finished"


def test_the_result_can_be_waited_for(work):
    job = enqueue(numbers.add, 2, 3)
    work()

    assert wait(job, timeout="30s") == 5


def test_a_job_that_fails_is_an_error_for_who_waits(work):
    job = enqueue(images.resize, "missing.jpg", 200)
    work()
    with pytest.raises(JobFailed, match="is not below JOBS_FILES"):
        wait(job, timeout="30s")


def test_many_jobs_are_enqueued_at_once_and_run(work):
    jobs = enqueue.options(queue="low").many(numbers.add, ((n, n) for n in range(100)))
    work()

    assert [job.return_value() for job in jobs] == [2 * n for n in range(100)]


def test_a_job_is_tried_again_only_for_what_is_worth_it(work):
    again = enqueue.options(retry=Retry(max=5, pause="2s", on=(ConnectionError,)))
    job = again(images.resize, "missing.jpg", 200)

    assert work() == 1
    assert job.get_status() == "failed"


def test_a_job_that_failed_is_tried_again_after_a_pause(work):
    job = enqueue.options(retry=3)(images.resize, "missing.jpg", 200)
    at_once = enqueue.options(retry=Retry(3, pause=0))(images.resize, "missing.jpg", 200)
    work()

    assert (job.get_status(), at_once.get_status()) == ("scheduled", "failed")


def test_a_job_that_no_worker_begins_in_time_is_canceled(work, redis):
    job = enqueue.options(expires="10m")(numbers.add, 2, 3)
    redis.zadd(keys.EXPIRING, {job.id: 1})  # its time is over
    work()
    with pytest.raises(JobFailed, match="canceled"):
        wait(job, timeout="30s")


def test_the_same_call_may_be_one_job_for_an_hour(redis):
    once = enqueue.options(unique="1h", unique_until="done")
    first, second = once(numbers.add, 2, 3), once(numbers.add, 2, 3)

    assert first.id == second.id
    assert redis.llen(keys.queue("default")) == 1


def test_a_functions_usual_options_hold_wherever_it_is_enqueued(redis):
    usual = OPTIONS[reports.last_day]
    by_call = enqueue(reports.last_day, "day.html")
    by_path = enqueue.by_path("jobs.reports.last_day", "day.html")
    [entry] = [entry for entry in read(scheduler.SCHEDULE) if "last_day" in entry.name]

    assert usual == {"timeout": "10m"}
    assert (by_call.timeout, by_path.timeout, entry.run_fields["timeout"]) == (600, 600, 600)


def test_options_do_not_mix_with_the_functions_own_arguments(work):
    job = enqueue.options(queue="low", timeout="2m", job_id="sum-1")(numbers.add, 2, y=3)

    assert (job.origin, job.timeout, job.id) == ("low", 120, "sum-1")


def test_a_call_that_does_not_fit_the_signature_is_refused_and_nothing_written(redis):
    with pytest.raises(WrongArguments, match="add\\(\\) needs the argument 'y'"):
        enqueue(numbers.add, 2)

    assert redis.keys() == []


def test_an_argument_that_does_not_fit_its_annotation_is_refused():
    with pytest.raises(WrongArguments, match=r"add: y: expected a number, got 'x'"):
        enqueue(numbers.add, 2, "x")


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

    assert redis.lrange(keys.queue("default"), 0, -1) == [b"one"]
    first.refresh()
    assert first.args == [2, 3]


def test_an_unknown_option_names_the_known_ones():
    with pytest.raises(InvalidValue, match="option is 'quue'; it must be one of in_, "):
        enqueue.options(quue="low")


def test_a_delayed_job_waits_among_the_scheduled_ones():
    job = enqueue.options(in_="5m")(numbers.add, 2, 3)

    assert job.get_status() == "scheduled"


def test_a_job_is_found_by_its_id(work):
    job = enqueue(numbers.add, 2, 3)
    work()

    assert find_job(job.id).return_value() == 5


@pytest.mark.parametrize("job_id", ["no-such-job", "no id", "a:b", ""])
def test_what_is_no_jobs_id_finds_none(job_id):
    assert find_job(job_id) is None
