"""How many jobs a worker takes at once."""

from jiffy.worker.pace import BUDGET_S, LARGEST, Pace


def learn(pace, took_s, times=1, name="f"):
    for _ in range(times):
        pace.learn(name, took_s)


def test_a_new_worker_takes_one():
    assert Pace().want == 1


def test_quick_jobs_are_taken_by_the_dozen_soon():
    pace = Pace()
    learn(pace, 0.0001, times=4)

    assert pace.want == LARGEST


def test_it_takes_no_more_than_is_done_in_a_blink():
    pace = Pace()
    learn(pace, 0.001, times=50)

    assert pace.want * 0.001 <= BUDGET_S


def test_after_one_slow_job_it_takes_one():
    pace = Pace()
    learn(pace, 0.0001, times=50)
    learn(pace, 2)

    assert pace.want == 1


def test_a_function_that_was_slow_once_is_not_quick_at_its_next_quick_call():
    pace = Pace()
    learn(pace, 2)
    learn(pace, 0.0001)

    assert not pace.is_quick("f")


def test_a_function_is_quick_again_once_it_was_for_long():
    pace = Pace()
    learn(pace, 2)
    learn(pace, 0.0001, times=50)

    assert pace.is_quick("f")


def test_a_function_that_nobody_knows_is_not_quick():
    pace = Pace()
    learn(pace, 0.0001, name="known")

    assert pace.is_quick("known")
    assert not pace.is_quick("unknown")


def test_each_function_has_a_pace_of_its_own():
    pace = Pace()
    learn(pace, 2, name="slow")
    learn(pace, 0.0001, times=50, name="quick")

    assert pace.want == LARGEST
    assert not pace.is_quick("slow")


def test_one_at_a_time_stays_one_at_a_time():
    pace = Pace(largest=1)
    learn(pace, 0.0001, times=50)

    assert pace.want == 1


def test_a_clock_that_stands_still_breaks_nothing():
    pace = Pace()
    learn(pace, 0, times=50)

    assert pace.want == LARGEST
