"""The board of a child and its supervisor: no job is both begun and given back."""

import os

import pytest

from jiffy.worker.board import NOTES_BYTES, Board, Running


@pytest.fixture
def board():
    """A board of a child that holds three jobs, of its batch 7."""
    board = Board()
    board.hold(batch=7, last=3)
    return board


def test_it_says_which_job_of_which_batch_runs(board):
    board.begin(1, limit_s=180)

    assert board.running == Running(batch=7, position=1, began=board.running.began, limit_s=180)


def test_between_two_jobs_none_runs(board):
    board.begin(0, limit_s=180)
    board.end()

    assert board.running is None


def test_once_the_rest_is_given_back_none_of_it_begins(board):
    board.begin(0, limit_s=180)
    board.halt()
    board.end()

    assert not board.begin(1, limit_s=180)


def test_outcomes_are_noted_until_the_next_batch(board):
    board.note('["first"]')
    board.note('["second"]')

    assert board.noted == '["first"],["second"]'
    board.hold(batch=8, last=1)
    assert board.noted == ""


def test_an_outcome_that_does_not_fit_is_not_noted(board):
    board.note('["small"]')
    board.note("x" * NOTES_BYTES)

    assert board.noted == '["small"]'


def test_the_next_batch_begins_again(board):
    board.halt()
    board.hold(batch=8, last=1)

    assert board.begin(0, limit_s=180)


def test_whoever_halts_sees_what_began_before(board):
    """`begin` writes, then asks; the supervisor halts, then asks: one of them sees the other."""
    began = board.begin(0, limit_s=180)
    board.halt()

    assert began
    assert board.running.position == 0


def test_a_reason_to_leave_is_for_the_job_that_it_was_meant_for_only(board):
    board.begin(0, limit_s=180)
    board.ask_to_leave(board.running, Board.TIMEOUT)
    meant = board.must_leave
    board.end()
    board.begin(1, limit_s=180)

    assert (meant, board.must_leave) == (Board.TIMEOUT, 0)


def test_between_two_jobs_there_is_nothing_to_leave(board):
    board.begin(0, limit_s=180)
    board.ask_to_leave(board.running, Board.INTERRUPT)
    board.end()

    assert board.must_leave == 0


def test_a_callback_has_a_limit_and_a_beginning_of_its_own(board):
    board.begin(0, limit_s=180)
    first = board.running
    board.relimit(60)

    assert board.running.limit_s == 60
    assert board.running.began > first.began


def test_to_stop_is_to_begin_nothing_more(board):
    board.stop()

    assert board.must_stop
    assert not board.begin(0, limit_s=180)


def test_a_child_that_is_to_stop_begins_nothing_of_what_it_claims_then(board):
    board.stop()
    board.hold(batch=8, last=3)

    assert not board.begin(0, limit_s=180)


def test_a_new_child_starts_on_a_clean_board(board):
    board.begin(0, limit_s=180)
    board.sleep(True)
    board.stop()
    board.reset()

    assert (board.running, board.last, board.is_asleep, board.must_stop) == (None, 0, False, False)
    assert not board.is_halted


def test_the_supervisor_reads_what_a_dead_child_wrote(board):
    pid = os.fork()
    if not pid:
        board.begin(2, limit_s=30)
        os._exit(0)
    os.waitpid(pid, 0)

    assert board.running.position == 2
