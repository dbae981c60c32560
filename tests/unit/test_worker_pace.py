"""How many jobs a worker claims at once: as many as are over in a blink."""

import pytest

from jiffy.worker.child import BUDGET_S, LARGEST, Pace

QUICK_S, SLOW_S = 0.0001, 2


def after(*took, largest=LARGEST):
    """What a worker has learnt from calls: (how long they took, how often) of one function."""
    pace = Pace(largest)
    for took_s, times in took:
        for _ in range(times):
            pace.learn("f", took_s)
    return pace


@pytest.mark.parametrize(
    ("took", "want"),
    [
        ([], 1),
        ([(QUICK_S, 4)], LARGEST),
        ([(QUICK_S, 50), (SLOW_S, 1)], 1),
        ([(0, 50)], LARGEST),  # a clock that stands still
    ],
)
def test_it_claims_one_until_jobs_are_known_to_be_quick(took, want):
    assert after(*took).want == want


@pytest.mark.parametrize("took_s", [0.0003, 0.001, 0.01, 0.02])
def test_it_claims_no_more_than_is_done_in_a_blink(took_s):
    assert after((took_s, 50)).want * took_s <= BUDGET_S


def test_one_at_a_time_stays_one_at_a_time():
    assert after((QUICK_S, 50), largest=1).want == 1


@pytest.mark.parametrize(
    ("took", "is_quick"),
    [
        ([], False),
        ([(QUICK_S, 1)], True),
        ([(SLOW_S, 1), (QUICK_S, 1)], False),
        ([(SLOW_S, 1), (QUICK_S, 50)], True),
    ],
)
def test_a_function_is_quick_once_it_was_for_long(took, is_quick):
    assert after(*took).is_quick("f") == is_quick


def test_each_function_has_a_pace_of_its_own():
    pace = after((QUICK_S, 50))
    pace.learn("slow", SLOW_S)

    assert (pace.is_quick("f"), pace.is_quick("slow"), pace.is_quick("new")) == (True, False, False)
