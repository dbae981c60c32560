"""Each system's way does the same: Linux', and the fallback of the others, which runs here too."""

import os
import subprocess
import sys

import pytest

from jiffy import os_compat

# A process and its child: the child dies with it, and holds the pipe that it prints to till then.
FAMILY = """
import os, signal, sys
from jiffy import os_compat

os_compat.IS_LINUX = sys.argv[1] == "linux"
parent = os.getpid()
if os.fork() == 0:
    os_compat.die_with(parent)
    print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.fixture(params=["linux", "fallback"])
def way(request, monkeypatch):
    if request.param == "linux" and not os_compat.IS_LINUX:
        pytest.skip("this is not Linux")
    monkeypatch.setattr(os_compat, "IS_LINUX", request.param == "linux")
    return request.param


@pytest.fixture
def family(way):
    with subprocess.Popen([sys.executable, "-c", FAMILY, way], stdout=subprocess.PIPE) as parent:
        yield parent, int(parent.stdout.readline())
        parent.kill()


def test_a_child_dies_with_its_parent(family):
    parent, _ = family
    parent.kill()

    assert parent.stdout.read() == b""  # it comes to an end


def test_a_childs_child_is_a_descendant(family):
    parent, child = family

    assert set(os_compat.descendants(os.getpid())) >= {parent.pid, child}
    assert os_compat.descendants(parent.pid) == [child]


def test_what_memory_a_process_has(way):
    assert 1 << 20 < os_compat.memory_bytes(os.getpid()) < 1 << 40


def test_there_is_at_least_one_core(way):
    assert 1 <= os_compat.cores() <= os.cpu_count()


def test_a_process_that_has_ended_has_no_memory(way):
    with subprocess.Popen(["true"]) as ended:
        pass

    assert os_compat.memory_bytes(ended.pid) == 0
