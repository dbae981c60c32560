"""Why a job failed, in one line."""

import re

import pytest

import jiffy
from jiffy.control import read
from jiffy.errors import JobFailed
from jiffy.producer.results import wait
from tests.jobs import reasons

PLACE = r" \(jobs/reasons.py:\d+ in {}\)"


@pytest.mark.parametrize(
    ("func", "shown", "place"),
    [
        (reasons.insert_twice,
         r"sqlalchemy.exc.IntegrityError: \(sqlite3.IntegrityError\) UNIQUE constraint failed: "
         "orders.id", "insert_twice"),
        (reasons.fail_in_a_group,
         r"ExceptionGroup: 4 parts \(4 sub-exceptions\): ValueError: no card; TypeError: odd; "
         "KeyError: 'x'; …", "fail_in_a_group"),
        (reasons.fail_with_a_cause,
         r"RuntimeError: no photo, caused by FileNotFoundError: \[Errno 2\] No such file or "
         r"directory: 'caf\\udce9.jpg'", "open_what_is_not_there"),
        (reasons.fail_in_a_pool, r"ValueError: invalid literal for int\(\) with base 10: 'x'",
         "fail_in_a_pool"),
        (reasons.fail_at_length, "ValueError: x{487}…", "fail_at_length"),
    ],
)  # fmt: skip
def test_a_failure_has_a_reason_of_one_line(redis, work, func, shown, place):
    job = jiffy.enqueue(func)
    work()
    with pytest.raises(JobFailed) as failed:
        wait(job)

    assert re.fullmatch(shown + PLACE.format(place), failed.value.reason)
    assert read.job(redis, job.id).reason == failed.value.reason
    assert len(failed.value.traceback) <= 50_000


def test_a_result_that_is_no_utf_8_stays_readable(redis, work):
    job = jiffy.enqueue(reasons.return_a_file_name)
    work()

    assert read.job(redis, job.id).result == r"caf\udce9.jpg"
