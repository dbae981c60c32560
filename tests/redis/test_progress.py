"""Progress, as a job reports it."""

from fractions import Fraction

import pytest
from rq import get_current_job

from jiffy import clock, keys, progress
from jiffy.errors import InvalidValue
from jiffy.producer.enqueue import Queue
from jiffy.producer.progress import State


class Clock:
    """Stands still until it is moved, also by the jobs below."""

    now_s = 0.0


@pytest.fixture(autouse=True)
def still(monkeypatch):
    monkeypatch.setattr(Clock, "now_s", 1_000.0)
    monkeypatch.setattr(clock, "monotonic", lambda: Clock.now_s)


@pytest.fixture
def run(redis, work, environ):
    """Run a function of this file as a job of its own; return the job."""
    environ(JOBS_MODULES="tests")

    def run_it(function, *args):
        job = Queue("default", connection=redis).enqueue(function, *args)
        work()
        return job

    return run_it


def reported():
    """What the job that runs has reported so far."""
    state = progress.read(get_current_job())
    return None if state is None else (state.fraction, state.note)


def half():
    progress.update(0.5, "resizing")


def over_a_list():
    seen = []
    for row in progress(["a", "b", "c", "d"]):
        seen.append([row, *reported()])
        Clock.now_s += 1
    return seen


def over_a_stream():
    seen = []
    for row in progress(iter("ab")):
        seen.append([row, *reported()])
        Clock.now_s += 1
    return seen


def over_a_stream_of_known_length():
    for _ in progress(iter("abcd"), total=4, note="reading"):
        Clock.now_s += 1


def often(step_s, times):
    written = []
    for number in range(times):
        progress.update(number / times)
        written.append(reported())
        Clock.now_s += step_s
    return len(set(written))


SEEN = []


def after_deletion():
    job = get_current_job()
    job.connection.delete(job.key)
    progress.update(0.5)
    SEEN.append(job.connection.exists(job.key))


def test_the_count_is_reported_before_each_row(run):
    assert run(over_a_list).return_value() == [
        ["a", 0, "0 of 4"], ["b", 0.25, "1 of 4"], ["c", 0.5, "2 of 4"], ["d", 0.75, "3 of 4"],
    ]  # fmt: skip


def test_where_the_end_is_not_known_the_count_is_reported(run):
    assert run(over_a_stream).return_value() == [["a", None, "0 done"], ["b", None, "1 done"]]


def test_a_stream_may_be_given_its_length_and_a_note(run):
    assert progress.read(run(over_a_stream_of_known_length)) == State(0.75, "reading")


@pytest.mark.parametrize(("step_s", "times", "written"), [(0.01, 100, 4), (0.25, 8, 8), (0, 9, 1)])
def test_no_more_than_four_a_second_are_written(run, step_s, times, written):
    assert run(often, step_s, times).return_value() == written


def test_a_job_that_is_deleted_meanwhile_does_not_come_back_to_life(run):
    SEEN.clear()
    run(after_deletion)

    assert SEEN == [0]


def test_outside_a_worker_nothing_is_written(redis):
    half()

    assert list(progress("ab")) == ["a", "b"]
    assert redis.keys() == []


def test_a_fraction_may_be_any_number(run):
    assert progress.read(run(exact)) == State(0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_fraction_that_cannot_be_is_refused_also_outside_a_worker(fraction):
    with pytest.raises(InvalidValue, match="must be a fraction from 0 to 1"):
        progress.update(fraction)


def test_a_long_note_is_cut(run, redis):
    job = run(long_note)

    assert len(progress.read(job).note) == 200


def exact():
    progress.update(Fraction(1, 2))


def long_note():
    progress.update(None, "x" * 10_000)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"7", b'{"fraction": 1}', b'"\xff"',
        b'{"fraction": "<b>", "note": ""}', b'{"fraction": [1], "note": ""}',
    ],
)  # fmt: skip
def test_what_another_program_left_in_its_place_counts_as_nothing(run, redis, raw):
    job = run(half)
    redis.hset(job.key, keys.PROGRESS_FIELD, raw)

    assert progress.read(job) is None


@pytest.mark.parametrize(("fraction", "read"), [("7", 1), ("-1", 0), ("NaN", 0), ("1e999", 1)])
def test_a_fraction_that_another_program_wrote_is_kept_within_bounds(fraction, read):
    assert State.decode(f'{{"fraction": {fraction}, "note": ""}}') == State(read)
