"""The job that takes its time."""

from enqueue import enqueue
from jiffy.producer import job_progress
from jobs import long


def test_a_text_is_spelled():
    assert long.spell("abc", pause_s=0) == "a-b-c"


def test_it_says_what_it_does(work):
    job = enqueue(long.spell, "ab", pause_s=0)
    work()

    assert job_progress.read(job).note == "spelling"
