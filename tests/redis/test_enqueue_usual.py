"""The usual options of functions: declared once by the project, and never left out."""

import os
import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from jiffy import enqueue, keys, part
from jiffy.errors import BrokenModule, InvalidValue
from jobs import numbers
from tests.support.newcomer import CHECKOUT

pytestmark = pytest.mark.usefixtures("redis")

TABLE = """
from jiffy import options
from jobs import numbers

OPTIONS = {numbers.add: options(queue="low", timeout="9m")}
EMPTY = None
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported: `module("shop_queue", "…")`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(name, text):
        names.append(name)
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def shop_queue(module, environ):
    """A project that declares its options in a module of its own."""
    module("shop_queue", TABLE)
    environ(OPTIONS="shop_queue:OPTIONS")


@pytest.mark.usefixtures("shop_queue")
def test_they_hold_for_one_call_for_many_and_in_a_chain():
    one = enqueue(numbers.add, 2, 3)
    [many] = enqueue.many(numbers.add, [(2, 3)])
    [last] = enqueue.chain(part(numbers.add, 2, 3))

    for job in (one, many, last):
        assert (job.origin, job.timeout) == ("low", 540)


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("shop_gone:OPTIONS", InvalidValue, "in a module that exists; there is no 'shop_gone'."),
        ("shop_queue:OPTION", InvalidValue, "a name that shop_queue defines; OPTION is not."),
        ("shop_queue:EMPTY", InvalidValue, "OPTIONS is None; it must be a dict of functions"),
        ("shop_broken:OPTIONS", BrokenModule, "shop_broken cannot be imported: ValueError: no"),
    ],
)
@pytest.mark.usefixtures("shop_queue")
def test_a_table_that_is_not_there_is_an_error_not_a_table_without_lines(
    module, environ, redis, reference, error, said
):
    module("shop_broken", "raise ValueError('no')")
    environ(OPTIONS=reference)
    with pytest.raises(error, match=said):
        enqueue(numbers.add, 2, 3)

    assert redis.keys() == []


def queue_of_a_job_in(folder):
    """The queue that a job goes to by default, in a project with these files."""
    code = "from jiffy import enqueue; print(enqueue.by_path('jobs.numbers.add', 2, 3).origin)"
    paths = os.pathsep.join(map(str, (folder, CHECKOUT)))
    environ = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, cwd=folder, env=environ, text=True).strip()


def test_without_the_setting_they_are_those_of_enqueue_py(tmp_path):
    (tmp_path / "enqueue.py").write_text(TABLE)

    assert queue_of_a_job_in(tmp_path) == "low"


def test_another_programs_enqueue_py_is_not_even_imported(tmp_path):
    (tmp_path / "enqueue.py").write_text("raise SystemExit('it was run')")

    assert queue_of_a_job_in(tmp_path) == "default"


def test_a_time_that_comes_twice_is_told_from_the_first_one(redis):
    first = datetime(2099, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"))
    jobs = [enqueue.options(at=first.replace(fold=fold))(numbers.add, 2, 3) for fold in (0, 1)]

    due = [redis.zscore(f"{keys.RQ}scheduled:default", job.id) for job in jobs]
    assert due == [first.timestamp(), first.timestamp() + 3600]
