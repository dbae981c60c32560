"""Errors are one family, and each is one line that a person can act upon."""

import inspect
import pickle
import re

import pytest

from jiffy import errors, redis_io

FAMILY = [
    error
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, errors.JiffyError)
]


def test_every_error_stands_in_the_family_tree():
    tree = set(re.findall(r"^ *([A-Z]\w+)", errors.__doc__, re.MULTILINE))

    assert {error.__name__ for error in FAMILY} <= tree


def test_an_error_of_ours_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end, redis_io.in_one_line():
        raise errors.WrongArguments("first\n  second")

    assert capsys.readouterr().err == "first second\n"
    assert end.value.code == 2


def test_an_error_has_its_facts_as_fields_and_survives_pickling():
    error = pickle.loads(pickle.dumps(errors.InvalidValue("retry", -1, "0 or more")))

    assert (error.name, error.value, error.must) == ("retry", -1, "0 or more")
    assert str(error) == "retry is -1; it must be 0 or more."
