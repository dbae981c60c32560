"""How the bench of schedulers counts: jobs are held against a tick each second."""

from itertools import pairwise

import pytest

from bench.schedule.contestants import CONTESTANTS
from bench.schedule.ledger import Arrival, count

START = 1_000_000.0


def named(*slots, late=0.002):
    """Jobs that say which tick they are, as ours do."""
    return [Arrival(START + slot + late, START + slot) for slot in slots]


def unnamed(*times):
    return [Arrival(START + at, None) for at in times]


def test_a_tick_a_second_is_all_that_is_due():
    found = count(named(*range(10)), 10)

    assert (found.enqueued, found.missing, found.doubled) == (10, 0, 0)


def test_a_tick_without_a_job_is_missing():
    assert count(named(0, 1, 3, 4), 5).missing == 1


def test_the_second_job_of_a_tick_is_one_too_many():
    assert count(named(0, 1, 1, 1, 2), 3).doubled == 2


def test_a_tick_that_is_enqueued_late_is_not_missing():
    jobs = [*named(0, 1), *named(2, late=70), *named(3)]

    assert count(jobs, 4).missing == 0
    assert max(count(jobs, 4).late_s) == pytest.approx(70)


def test_a_job_that_names_no_tick_counts_for_the_second_it_came_in():
    found = count(unnamed(0.4, 1.41, 1.9, 3.4), 4)

    assert (found.enqueued, found.missing, found.doubled) == (3, 1, 1)


def test_an_interval_that_drifts_gets_later_and_later():
    found = count(unnamed(*(1.005 * number for number in range(60))), 60)

    assert all(later > earlier for earlier, later in pairwise(found.late_s))
    assert found.late(100) == pytest.approx(0.295)


def test_a_job_that_comes_just_before_its_second_is_not_taken_for_the_one_before():
    assert count(unnamed(0, 0.99, 1.98), 3).missing == 0


def test_what_comes_after_the_time_is_not_counted():
    assert count(named(*range(10)), 4).enqueued == 4


def test_jobs_of_ours_say_which_tick_they_are():
    assert CONTESTANTS["jiffy"].slot(b"noop-0-20261120T162300Z") == 1795191780
    assert CONTESTANTS["rq-scheduler"].slot(b"noop-0") is None
