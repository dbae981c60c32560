"""How the chaos counts: what became of each job is held against what must become of it."""

import pytest

from bench.chaos.ledger import Expected, Runs, wrong_counts


def ran(*spans, calls=0):
    """Runs that began and ended then; None: that one failed, or was killed."""
    return Runs(
        [(began, "1") for began, _ in spans],
        [(ended, "1") for _, ended in spans if ended is not None],
        calls,
    )


@pytest.mark.parametrize(
    ("expected", "run", "wrong", "wrong_where_processes_die"),
    [
        (Expected("a"), ran((0, 1)), False, False),
        (Expected("a"), ran((0, None), (1, 2)), True, False),
        (Expected("a", may_restart=False), ran((0, None), (1, 2)), True, True),
        (Expected("a", runs=3), ran((0, None), (1, None), (2, 3)), False, False),
        (Expected("a", runs=3), ran((0, None), (1, 2)), True, True),
        (Expected("a", calls=1), ran((0, 1), calls=1), False, False),
        (Expected("a", calls=1), ran((0, 1)), True, True),
        (Expected("a", calls=1), ran((0, 1), calls=2), True, False),
        (Expected("a", after=("b",)), ran((5, 6)), False, False),
        (Expected("a", after=("b",)), ran((4, 6)), True, True),
        (Expected("a", ends=2, runs=2, together=1), ran((0, 1), (2, 3)), False, False),
        (Expected("a", ends=2, runs=2, together=1), ran((0, 2), (1, 3)), True, False),
    ],
)
def test_jobs_that_run_too_often_too_early_or_together_are_found(
    expected, run, wrong, wrong_where_processes_die
):
    runs = {"a": run, "b": ran((1, 4.5))}

    assert bool(wrong_counts([expected], runs, processes_die=False)) == wrong
    assert bool(wrong_counts([expected], runs, processes_die=True)) == wrong_where_processes_die
