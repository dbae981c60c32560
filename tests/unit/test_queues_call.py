"""A call is checked in the caller: each mistake has its own words, and secrets are not shown."""

import functools
import json
import types
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy
import pytest

from jiffy.errors import CallTooLarge, NotAllowed, NotImportable, WrongArguments
from jiffy.producer.payload import target
from tests.jobs import enqueue as enqueue_jobs
from tests.jobs import typed
from tests.jobs import worker as worker_jobs
from tests.jobs.enqueue import Greeter, add, collect, log_in


@pytest.fixture(autouse=True)
def allowed(environ):
    environ(JOBS_MODULES="jobs,tests")


def called(function, *args, **kwargs):
    return target(function).call(args, kwargs)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "is a lambda"),
        (enqueue_jobs.wrapped, "is defined inside another function"),
        (functools.partial(add, 1), "is not a function that a worker could import"),
        (
            types.FunctionType(worker_jobs.nothing.__code__, {"__name__": "__main__"}, "tidy"),
            r"is in the program itself \(__main__\)",
        ),
        (5, "is not a function that a worker could import"),
        ("jobs.numbers.add", "is a string; to enqueue a function by its path, use"),
    ],
)
def test_what_a_worker_could_not_import_is_refused_with_the_reason(function, reason):
    with pytest.raises(NotImportable, match=reason):
        target(function)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Greeter().greet, "'tests.jobs.enqueue.Greeter.greet' is a method of an object"),
        (Greeter, "'tests.jobs.enqueue.Greeter' is a class"),
        (worker_jobs._hidden, "'tests.jobs.worker._hidden' is private"),
        (worker_jobs.Orders._hidden, "is private: _hidden begins with an underscore"),
        (Fraction.from_float, "'fractions.Fraction.from_float' is not under jobs or tests"),
    ],
)
def test_what_workers_do_not_run_is_refused_with_the_reason(function, reason):
    with pytest.raises(NotAllowed, match=reason):
        target(function)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "add() needs the argument 'x'. It takes add(x, y=0)."),
        ((1, 2, 3), {}, "add() takes 2 arguments, not 3."),
        ((1,), {"why": 2}, "add() has no argument 'why'"),
        ((1, 2), {"job_timeout": 5},
         "add() has no argument 'job_timeout' (options come first: enqueue.options(timeout=…))"),
        ((), {1: 2}, "add() has no argument 1. It takes"),
        ((1,), {"x": 2}, "add() was given the argument 'x' twice"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_in_words(args, kwargs, words):
    with pytest.raises(WrongArguments) as refusal:
        target(add).call(args, kwargs)

    assert str(refusal.value).startswith(words)


CIRCULAR = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        (datetime(2999, 1, 1, tzinfo=UTC), "y",
         "a datetime. Annotate the parameter, or pass its isoformat()"),
        (Path("a.jpg"), "y", "a PosixPath. Annotate the parameter, or pass it as a string"),
        (Decimal(1), "y", "a Decimal. Annotate the parameter, or pass it as a string"),
        ({1, 2}, "y", "a set. Annotate the parameter, or pass a list"),
        (float("nan"), "y", "nan. Pass None"),
        (b"raw", "y", "a bytes. Annotate the parameter, or pass the path of a file"),
        (object(), "y", "an object. Annotate the parameter, or pass a number"),
        ([1, {"at": {"now": b""}}], "y[1].at.now", "a bytes"),
        ({(1, 2): 3}, "the key (1, 2) of y", "a tuple. Annotate the parameter, or pass its str(…)"),
        ({1: "a", "1": "b"}, "the key 1 of y",
         "an int. Annotate the parameter, or pass its str(…)"),
        ([{"a": {True: 1}}], "the key True of y[0].a", "a bool. Annotate"),
        (CIRCULAR, "y", "nested too deeply, or contains itself"),
        ([1, 10**5000], "y[1]", "a number of more digits than JSON is read with. Pass it as hex"),
        ({10**5000: 1}, "the key … of y", "an int. Annotate"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_sent_is_named_with_its_type_and_a_remedy(value, where, what):
    with pytest.raises(WrongArguments) as refusal:
        called(add, 1, y=value)

    words = f"tests.jobs.enqueue.add: {where} cannot be sent as JSON: it is {what}"
    assert str(refusal.value).startswith(words)


def test_an_argument_without_a_name_is_named_by_its_place():
    with pytest.raises(WrongArguments, match="argument 2 cannot be sent as JSON"):
        called(collect, 1, b"")


def test_arguments_that_are_too_large_are_refused_with_advice(environ):
    environ(JOBS_MODULES="tests", JOB_MAX_BYTES="1000")
    called(add, "x" * 900)
    with pytest.raises(CallTooLarge) as refusal:
        called(add, 1, "x" * 1000)

    assert "at most 1,000 are allowed (JOB_MAX_BYTES). Most of it is 'y'" in str(refusal.value)
    assert "pass its path or id" in str(refusal.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        (("ada", "hunter2"), {}, "('ada', ***)"),
        (("ada",), {"password": "hunter2"}, "('ada', password=***)"),
        (("ada", "hunter2", "t1", "t2"), {}, "('ada', ***, ***, ***)"),
        (({"name": "ada", "apiKey": "k"}, None), {}, "({'name': 'ada', 'apiKey': ***}, None)"),
    ],
)
def test_what_is_named_like_a_secret_is_masked_in_the_description(args, kwargs, shown):
    description = called(log_in, *args, **kwargs).description

    assert description == f"tests.jobs.enqueue.log_in{shown}"


@pytest.mark.parametrize(
    ("function", "good", "bad", "reason"),
    [
        (typed.few, 3, 4, "it: expected .*, got 4"),
        (typed.size, "s", "l", "it: expected 's' or 'm', got 'l'"),
        (typed.share, 0.5, float("nan"), "it cannot be sent as JSON: it is nan"),
        (typed.share, None, True, "it: expected a number or null, got True"),
        (typed.share, 1, float("-inf"), "cannot be sent as JSON: it is -inf"),
        pytest.param(add, 1, 10**5000, "it is a number of more digits", id="digits"),
        (add, "x", "x" * 1_000_001, "are allowed"),
    ],
)  # fmt: skip
def test_a_call_is_checked_however_many_like_it_have_fitted(function, good, bad, reason):
    for _ in range(3):
        assert json.loads(called(function, good).data)[2] == [good]
        with pytest.raises((WrongArguments, CallTooLarge), match=reason):
            called(function, bad)


def test_a_call_with_a_number_of_numpys_is_described_as_it_is_sent_each_time():
    for _ in range(2):
        call = called(typed.share, numpy.float32(0.5))
        assert (json.loads(call.data)[2], call.description) == (
            [0.5],
            "tests.jobs.typed.share(0.5)",
        )
