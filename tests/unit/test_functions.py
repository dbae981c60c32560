"""A function is found by its path, and a shell's words become its arguments."""

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest

from jiffy.errors import BrokenModule, NotAllowed, UnknownFunction, WrongArguments
from jiffy.producer import functions
from jiffy.producer.payload import target
from jobs import numbers

JOBS = ("jobs",)


def from_words(function, words):
    """As a shell's words are read."""
    return functions.from_strings(function, *functions.split(function, words))


@pytest.fixture(autouse=True)
def allowed(environ):
    environ(JOBS_MODULES="jobs,tests")


def resize(path: str, width: int, height: int | None = None) -> None:
    """Stands for a job."""


def mix(ratio: float, *names: str, loud: bool = False, **weights: float) -> None:
    """Stands for a job that takes everything."""


class Colour(StrEnum):
    """Stands for a choice."""

    RED = "red"


def choose(size: Literal["s", "m", 3], colour: Colour | None = None) -> None:
    """Stands for a job whose arguments are some of a few."""


def gather(*texts: str) -> None:
    """Stands for a job that takes any number of texts."""


def loose(anything, where: Path = Path()):
    """Stands for a job without types."""


@pytest.fixture
def module_of_jobs(tmp_path, monkeypatch):
    """Write a module: `module_of_jobs("name", "its source")`; it is importable in this test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_a_path_finds_its_function():
    assert functions.find("jobs.numbers.add", JOBS) is numbers.add


def test_the_path_of_a_function_finds_it_again():
    assert functions.find(functions.path_of(numbers.add), JOBS) is numbers.add


@pytest.mark.parametrize("path", ["jobs.number.add", "jobs.numbers.ad", "job.numbers.add"])
def test_a_wrong_path_is_answered_with_the_nearest_right_one(path):
    with pytest.raises(UnknownFunction) as refusal:
        functions.find(path, JOBS)

    assert str(refusal.value) == f"No function {path!r}. Did you mean 'jobs.numbers.add'?"


@pytest.mark.parametrize("path", ["jobs", "jobs.", "jobs.numbers", "jobs..add"])
def test_a_path_of_no_function_is_answered_in_words(path):
    with pytest.raises(UnknownFunction, match=f"^No function {path!r}\\."):
        functions.find(path, JOBS)


def test_a_path_that_is_like_no_other_is_answered_with_how_to_write_one():
    with pytest.raises(UnknownFunction, match=r"Write it as module\.name\.$"):
        functions.find("jobs.zebra", JOBS)


@pytest.mark.parametrize("path", ["os.system", "jobsandmore.run", "jiffy.producer.enqueue.put"])
def test_a_function_of_another_module_is_refused(path):
    with pytest.raises(NotAllowed, match="is not under jobs"):
        functions.find(path, JOBS)


TESTS = ("tests.jobs.worker",)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os.system", "is imported from elsewhere"),
        ("os", "is imported from elsewhere"),
        ("threading.Thread", "is imported from elsewhere"),
        ("get_current_job", "is imported from elsewhere"),
        ("Path", "is imported from elsewhere"),
        ("Path.cwd", "is imported from elsewhere"),
        ("_hidden", "is private: _hidden begins with an underscore"),
        ("_Session", "is private"),
        ("_Session.send", "is private"),
        ("Orders._hidden", "is private"),
        ("Orders.__init__", "is private"),
        ("Orders", "is a class"),
        ("Orders.Line", "is a class"),
        ("Orders.close", "is a method of an object"),
        ("Returns.close", "is a method of an object"),
    ],
)
def test_what_is_no_job_of_a_module_is_refused_with_the_reason(path, reason):
    with pytest.raises(NotAllowed, match=rf"^'tests.jobs.worker\.{re.escape(path)}' {reason}"):
        functions.find(f"tests.jobs.worker.{path}", TESTS)


@pytest.mark.parametrize("path", ["Orders.mro", "Orders.count.real", "SAID", "SAID.lower", "no"])
def test_what_is_no_function_is_none(path):
    with pytest.raises(UnknownFunction):
        functions.find(f"tests.jobs.worker.{path}", TESTS)


def test_what_a_class_inherits_from_elsewhere_is_not_its_own(module_of_jobs):
    source = "import pathlib, enum\nclass Here(pathlib.Path): pass\nclass Number(int): pass\n"
    module_of_jobs("heirs", source)

    with pytest.raises(NotAllowed, match="is imported from elsewhere"):
        functions.find("heirs.Here.cwd", ("heirs",))
    with pytest.raises(UnknownFunction):
        functions.find("heirs.Number.from_bytes", ("heirs",))


def test_a_private_module_that_the_setting_names_is_open(module_of_jobs):
    module_of_jobs("_billing", "def run(): pass\ndef _hidden(): pass\n")

    assert functions.find("_billing.run", ("jobs", "_billing"))
    with pytest.raises(NotAllowed, match="_hidden begins with an underscore"):
        functions.find("_billing._hidden", ("jobs", "_billing"))


def test_the_nearest_name_may_be_that_of_a_method():
    with pytest.raises(UnknownFunction, match=r"Did you mean 'tests.jobs.worker\.Orders\.count'"):
        functions.find("tests.jobs.worker.Orders.cuont", TESTS)


@pytest.mark.parametrize("source", ["import not_installed", "1 / 0", "def broken(:"])
def test_a_module_that_fails_as_it_is_imported_is_named_with_its_error(module_of_jobs, source):
    module_of_jobs("broken_jobs", source)

    with pytest.raises(BrokenModule, match=r"^broken_jobs cannot be imported: "):
        functions.find("broken_jobs.run", ("broken_jobs",))


@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        (["a.jpg"], {"widht": 2}, "resize() has no argument 'widht' (did you mean 'width'?)."),
        (["a.jpg"], {}, "resize() needs the argument 'width'."),
        (["a.jpg", 1, 2, 3], {}, "resize() takes 3 arguments, not 4."),
        (["a.jpg", 1], {"width": 2}, "resize() was given the argument 'width' twice."),
    ],
)
def test_a_call_that_does_not_fit_is_refused_in_words(args, kwargs, reason):
    with pytest.raises(WrongArguments) as refusal:
        functions.check(resize, args, kwargs)

    assert str(refusal.value).startswith(reason)
    assert "It takes resize(path: str, width: int, height: int | None = None)" in str(refusal.value)


def test_words_become_what_the_signature_says():
    args, kwargs = from_words(resize, ["12", "200", "none"])

    assert (args, kwargs) == (["12", 200, None], {})


def test_a_word_with_an_equals_sign_goes_by_name():
    args, kwargs = from_words(resize, ["a.jpg", "height=150", "width=200"])

    assert (args, kwargs) == (["a.jpg", 200, 150], {})


def test_a_value_may_contain_equals_signs():
    assert from_words(resize, ["path=a=b.jpg", "width=1"])[0] == ["a=b.jpg", 1]


def test_a_word_that_only_more_arguments_could_take_goes_to_them_with_its_equals_sign():
    assert from_words(gather, ["a", "b=1", "c"]) == (["a", "b=1", "c"], {})


def test_a_word_of_a_few_that_may_be_is_what_the_function_takes():
    assert from_words(choose, ["m"]) == (["m"], {})
    assert from_words(choose, ["3", "red"]) == ([3, "red"], {})
    assert from_words(choose, ["3", "RED"]) == ([3, "red"], {})


def test_words_for_many_arguments_become_their_type_too():
    args, kwargs = from_words(mix, ["0.5", "one", "2", "loud=yes", "salt=1"])

    assert (args, kwargs) == ([0.5, "one", "2"], {"loud": True, "salt": 1.0})


@pytest.mark.parametrize(
    ("word", "value"), [("5", 5), ("[1, 2]", [1, 2]), ("true", True), ("plain text", "plain text")]
)
def test_a_word_for_an_argument_without_a_type_is_json_or_else_text(word, value):
    assert from_words(loose, [word])[0] == [value]


def test_a_path_travels_as_text():
    assert from_words(loose, ["1", "where=/srv"]) == ([1, "/srv"], {})


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.jpg", "wide"], "resize: width: expected a whole number, got 'wide'."),
        (["a.jpg", "1", "tall"], "resize: height: expected a whole number or null, got 'tall'."),
    ],
)
def test_a_word_of_the_wrong_type_is_refused_with_the_right_one(words, reason):
    args, kwargs = from_words(resize, words)
    with pytest.raises(WrongArguments) as refusal:
        target(resize).call(args, kwargs)

    assert str(refusal.value) == f"tests.unit.test_functions.{reason}"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x"], "choose: size: expected 's' or 'm' or 3, got 'x'."),
        (["s", "blue"], "choose: colour: expected 'red', got 'blue'."),
    ],
)
def test_a_word_that_is_none_of_a_few_is_refused_with_all_of_them(words, reason):
    args, kwargs = from_words(choose, words)
    with pytest.raises(WrongArguments) as refusal:
        target(choose).call(args, kwargs)

    assert str(refusal.value) == f"tests.unit.test_functions.{reason}"


def test_a_private_function_is_never_a_hint():
    with pytest.raises(UnknownFunction) as refused:
        functions.find("jobs.images.sizes", ("jobs",))

    assert "._" not in (refused.value.near or "")
