"""A function is found by its path, and a shell's words become its arguments."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest

from jiffy.errors import BrokenModule, NotAllowed, UnknownFunction
from jiffy.producer import functions

JOBS = ("jobs",)
TESTS = ("tests.jobs.worker",)


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


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("jobs.numbers.ad", "jobs.numbers.add"),
        ("job.numbers.add", "jobs.numbers.add"),
        ("tests.jobs.worker.Orders.cuont", "tests.jobs.worker.Orders.count"),
    ],
)
def test_a_wrong_path_is_answered_with_the_nearest_right_one(path, nearest):
    with pytest.raises(UnknownFunction) as refusal:
        functions.find(path, JOBS + TESTS)

    assert str(refusal.value) == f"No function {path!r}. Did you mean {nearest!r}?"


@pytest.mark.parametrize(
    ("path", "more"),
    [(path, "") for path in ("jobs", "jobs.", "jobs.numbers", "jobs..add")]
    + [("jobs.zebra", r" Write it as module\.name\.$")],
)
def test_a_path_of_no_function_is_answered_in_words(path, more):
    with pytest.raises(UnknownFunction, match=f"^No function {path!r}\\.{more}"):
        functions.find(path, JOBS)


@pytest.mark.parametrize("path", ["os.system", "jobsandmore.run", "jiffy.producer.enqueue.put"])
def test_a_function_of_another_module_is_refused(path):
    with pytest.raises(NotAllowed, match="is not under jobs"):
        functions.find(path, JOBS)


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


@pytest.mark.parametrize("source", ["import not_installed", "1 / 0", "def broken(:", "exit()"])
def test_a_module_that_fails_as_it_is_imported_is_named_with_its_error(module_of_jobs, source):
    module_of_jobs("broken_jobs", source)

    with pytest.raises(BrokenModule, match=r"^broken_jobs cannot be imported: "):
        functions.find("broken_jobs.run", ("broken_jobs",))


@pytest.mark.parametrize("source", ["import not_installed", "1 / 0", "exit()"])
def test_what_is_broken_or_a_program_hides_no_other_function(module_of_jobs, tmp_path, source):
    (tmp_path / "some_jobs" / "broken").mkdir(parents=True)
    module_of_jobs("some_jobs/__init__", "")
    module_of_jobs("some_jobs/__main__", "def purge(): pass\npurge()")
    module_of_jobs("some_jobs/broken/__init__", source)
    module_of_jobs("some_jobs/orders", "def close(): pass")

    assert [*functions.all_paths(("some_jobs",))] == ["some_jobs.orders.close"]
    assert "some_jobs.__main__" not in sys.modules


@pytest.mark.parametrize(
    ("function", "words", "args", "kwargs"),
    [
        (resize, ["12", "200", "none"], ["12", 200, None], {}),
        (resize, ["a.jpg", "height=150", "width=200"], ["a.jpg", 200, 150], {}),
        (resize, ["path=a=b.jpg", "width=1"], ["a=b.jpg", 1], {}),
        (gather, ["a", "b=1", "c"], ["a", "b=1", "c"], {}),
        (choose, ["m"], ["m"], {}),
        (choose, ["3", "red"], [3, "red"], {}),
        (choose, ["3", "RED"], [3, "red"], {}),
        (mix, ["0.5", "a", "2", "loud=yes", "salt=1"], [0.5, "a", "2"], {"loud": True, "salt": 1}),
        (loose, ["[1, 2]"], [[1, 2]], {}),
        (loose, ["true"], [True], {}),
        (loose, ["plain text"], ["plain text"], {}),
        (loose, ["1", "where=/srv"], [1, "/srv"], {}),
    ],
)
def test_words_become_what_the_signature_says(function, words, args, kwargs):
    assert from_words(function, words) == (args, kwargs)


def test_a_private_function_is_never_a_hint():
    with pytest.raises(UnknownFunction) as refused:
        functions.find("jobs.images.sizes", ("jobs",))

    assert "._" not in (refused.value.near or "")
