"""`bin/venv`: .venv has the Python that was named, and is made again only where it has to be."""

import os
import subprocess
import sys

import pytest

from tests.support.newcomer import CHECKOUT, newcomers_environ

pytestmark = pytest.mark.slow

PYTHON = os.path.realpath(sys.executable)
ANOTHER_BUILD = 'case "$2" in *print*) echo another build; esac'


@pytest.fixture
def bin_venv(tmp_path):
    """Call it in a folder: `bin_venv("requirements.txt", PYTHON=…)`; returns what it printed."""

    def call(*files, status=0, **environ):
        done = subprocess.run(
            [CHECKOUT / "bin/venv", *files], cwd=tmp_path, env=newcomers_environ() | environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    return call


def make_environment(folder, script=ANOTHER_BUILD):
    """A .venv whose Python runs this script, whatever it is given; returns the script's path."""
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


def version_in(folder):
    command = [folder / ".venv/bin/python", "-c", "import sys; print(sys.version)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_with_another_python_than_the_named_one_is_made_again(tmp_path, bin_venv):
    make_environment(tmp_path)

    assert bin_venv(PYTHON=PYTHON).startswith("Making .venv with Python 3.")
    assert version_in(tmp_path) == sys.version
    assert bin_venv(PYTHON=PYTHON) == ""


def test_without_a_named_python_any_environment_that_works_is_kept(tmp_path, bin_venv):
    make_environment(tmp_path)

    assert bin_venv(PYTHON="") == ""
    assert version_in(tmp_path) == "another build"


def test_an_environment_that_does_not_work_is_made_again_and_one_it_links_to_is_left(
    tmp_path, bin_venv
):
    others = make_environment(tmp_path / "other", "exit 1")
    (tmp_path / ".venv").symlink_to(tmp_path / "other/.venv")

    assert "Making .venv" in bin_venv(PYTHON="")
    assert version_in(tmp_path).startswith("3.")
    assert others.exists()


@pytest.mark.parametrize("name", ["python9.9", "./old"])
def test_a_named_python_that_is_missing_or_too_old_is_an_error(tmp_path, bin_venv, name):
    make_environment(tmp_path)
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    assert bin_venv(status=1, PYTHON=name) == (
        f"PYTHON is '{name}'; it must be the name or path of a Python 3.11 or newer.\n"
    )
    assert version_in(tmp_path) == "another build"


def test_what_a_file_lists_is_installed_again_only_when_the_file_has_changed(tmp_path, bin_venv):
    make_environment(tmp_path, "exit 0")
    listed = tmp_path / "listed.txt"
    listed.write_text("# nothing\n")
    said = [bin_venv(listed.name), bin_venv(listed.name)]
    listed.write_text("# nothing yet\n")
    said.append(bin_venv(listed.name))

    assert said == ["Installing listed.txt ...\n", "", "Installing listed.txt ...\n"]
