"""The names that users import from jiffy, each loaded when it is first used."""

import subprocess
import sys

import pytest

import jiffy
from tests.support.newcomer import CHECKOUT


@pytest.mark.parametrize("name", jiffy.__all__)
def test_a_public_name_is_there(name):
    assert getattr(jiffy, name) is not None


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jiffy' has no attribute 'enqeue'"):
        jiffy.enqeue  # noqa: B018


def test_a_word_of_celerys_leads_to_what_replaces_it():
    with pytest.raises(ImportError, match=r"has no 'shared_task': .*docs/from-celery\.md"):
        from jiffy import shared_task  # noqa: F401


def test_a_library_that_is_not_installed_is_named():
    program = "from jiffy import enqueue"
    without = [sys.executable, "-S", "-c", program]  # without site-packages
    ran = subprocess.run(without, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert ran.stderr.endswith("ModuleNotFoundError: No module named 'redis'\n")


def test_importing_jiffy_imports_nothing_else_of_it():
    program = (
        "import sys, jiffy; print([name for name in sys.modules if name.startswith('jiffy.')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout == "[]\n"
