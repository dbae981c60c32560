"""Errors are one family, and each is one line that a person can act upon."""

import inspect
import pickle
import re
import traceback

import pytest

from jiffy import errors, program

FAMILY = [
    error
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, errors.JiffyError)
]


def test_every_error_stands_in_the_family_tree():
    tree = set(re.findall(r"^ *([A-Z]\w+)", errors.__doc__, re.MULTILINE))

    assert {error.__name__ for error in FAMILY} <= tree


def test_an_error_of_ours_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end, program.in_one_line():
        raise errors.WrongArguments("first\n  second")

    assert capsys.readouterr().err == "first second\n"
    assert end.value.code == 2


def test_an_error_has_its_facts_as_fields_and_survives_pickling():
    error = pickle.loads(pickle.dumps(errors.InvalidValue("retry", -1, "0 or more")))

    assert (error.name, error.value, error.must) == ("retry", -1, "0 or more")
    assert str(error) == "retry is -1; it must be 0 or more."


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), program.in_one_line():
        raise ZeroDivisionError


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
    first, *_, last = lines = errors.shortened(whole)

    assert first.startswith('  File "')
    assert last == whole.splitlines()[-1]
    assert len(lines) <= 9


def test_the_error_of_an_exception_group_is_shortened_too():
    try:
        try:
            raise ValueError("no card")
        except ValueError as error:
            raise ExceptionGroup("several", [error] * 3) from None
    except ExceptionGroup:
        lines = errors.shortened(traceback.format_exc())

    assert lines[0].lstrip(" |").startswith('File "')


def test_what_is_no_traceback_is_shortened_to_its_last_lines():
    assert errors.shortened("It expired.") == ["It expired."]
    assert errors.shortened("") == []
    assert errors.shortened("\n".join("abcdefghijkl")) == list("efghijkl")
