"""Tracebacks: the reason within, in one line, and how they are shortened."""

import traceback

import pytest

from jiffy.tracebacks import shortened


def traceback_of(depth, message):
    def fail(left):
        if left:
            fail(left - 1)
        raise ValueError(message)

    try:
        fail(depth)
    except ValueError:
        return traceback.format_exc()


@pytest.mark.parametrize("depth", range(6))
@pytest.mark.parametrize("message", ["no card", "one\ntwo", "\n".join(map(str, range(30)))])
def test_a_shortened_traceback_begins_with_a_frame_and_ends_with_the_error(depth, message):
    whole = traceback_of(depth, message)
    first, *_, last = lines = shortened(whole)
    said = message.splitlines()

    assert first.startswith('  File "')
    assert last == f"ValueError: {said[0]}" or last.startswith(f"ValueError: {said[0]} (unit/test_")
    assert (lines[-2] == said[-1]) == (len(said) > 1)
    assert len(lines) <= 10


def test_the_error_of_an_exception_group_is_shortened_too():
    try:
        try:
            raise ValueError("no card")
        except ValueError as error:
            raise ExceptionGroup("several", [error] * 3) from None
    except ExceptionGroup:
        lines = shortened(traceback.format_exc())

    assert lines[0].lstrip(" |").startswith('File "')


def test_what_is_no_traceback_is_shortened_to_its_last_lines():
    assert shortened("It expired.") == ["It expired."]
    assert shortened("") == []
    assert shortened("\n".join("abcdefghijkl")) == list("efghijkl")
