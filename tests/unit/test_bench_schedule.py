"""How the bench of schedulers counts: jobs are held against a tick each second."""

import pytest

from bench.schedule.contestants import CONTESTANTS
from bench.schedule.ledger import Arrival, count

START = 1_000_000.0


def named(*slots, late=0.002):
    """Jobs that say which tick they are, as ours do."""
    return [Arrival(START + slot + late, START + slot) for slot in slots]


def unnamed(*times):
    return [Arrival(START + at, None) for at in times]


@pytest.mark.parametrize(
    ("jobs", "due", "enqueued", "missing", "doubled"),
    [
        (named(*range(10)), 10, 10, 0, 0),
        (named(0, 1, 3, 4), 5, 4, 1, 0),
        (named(0, 1, 1, 1, 2), 3, 3, 0, 2),
        ([*named(0, 1), *named(2, late=70), *named(3)], 4, 4, 0, 0),
        (unnamed(0.4, 1.41, 1.9, 3.4), 4, 3, 1, 1),  # these count for the second they came in
        (unnamed(0, 0.99, 1.98), 3, 3, 0, 0),
        (named(*range(10)), 4, 4, 0, 0),  # what comes after the time does not count
    ],
)
def test_runs_that_are_missing_and_doubled_are_counted(jobs, due, enqueued, missing, doubled):
    found = count(jobs, due)

    assert (found.missing, found.doubled) == (missing, doubled)
    assert found.enqueued == enqueued


def test_jobs_of_ours_say_which_tick_they_are():
    assert CONTESTANTS["jiffy"].slot(b"noop-0-20261120T162300Z") == 1795191780
    assert CONTESTANTS["rq-scheduler"].slot(b"noop-0") is None
