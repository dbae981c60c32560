"""The board of a child and its supervisor: no job is both begun and given back."""

import os

import pytest

from jiffy.worker.slot import OUTCOMES_BYTES, Board


@pytest.fixture
def board():
    """A board of a child that holds three jobs, of its batch 7."""
    board = Board()
    board.hold(batch=7, last=3)
    return board


def test_halt_sees_what_began_before_and_nothing_begins_after(board):
    """`begin` writes, then asks; the supervisor halts, then asks: one of them sees the other."""
    began = board.begin(0, limit_s=180)
    board.halt()

    assert (began, board.running.position) == (True, 0)
    board.end()
    assert not board.begin(1, limit_s=180)
    board.hold(batch=8, last=1)
    assert board.begin(0, limit_s=180)


def test_a_child_that_is_to_stop_begins_nothing_more_nor_what_it_claims_then(board):
    board.stop()
    first = board.begin(0, limit_s=180)
    board.hold(batch=8, last=3)

    assert (board.must_stop, first, board.begin(0, limit_s=180)) == (True, False, False)


def test_outcomes_are_noted_as_long_as_they_fit_until_the_next_batch(board):
    noted = [board.note(row) for row in ('["first"]', "x" * OUTCOMES_BYTES, '["sec\udcffond"]')]

    assert (noted, board.noted) == ([True, False, True], '["first"],["sec\udcffond"]')
    board.hold(batch=8, last=1)
    assert board.noted == ""


def test_a_reason_to_leave_is_for_the_job_that_it_was_meant_for_only(board):
    board.begin(0, limit_s=180)
    board.interrupt(board.running, Board.TIMEOUT)
    reasons = [board.interrupt_reason]
    board.end()
    reasons.append(board.interrupt_reason)
    board.begin(1, limit_s=180)

    assert [*reasons, board.interrupt_reason] == [Board.TIMEOUT, 0, 0]


def test_the_supervisor_reads_what_a_dead_child_wrote_and_the_next_starts_clean(board):
    pid = os.fork()
    if not pid:
        board.begin(2, limit_s=30)
        board.numbers.is_asleep = True
        board.stop()
        os._exit(0)
    os.waitpid(pid, 0)

    assert (board.running.position, board.numbers.is_asleep, board.must_stop) == (2, 1, True)
    board.reset()
    numbers = board.numbers
    assert (board.running, numbers.last, numbers.is_asleep, board.must_stop) == (None, 0, 0, False)
    assert board.begin(0, limit_s=180)
