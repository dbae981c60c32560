"""What exists is documented, and what is documented exists."""

import json
import re
import tomllib
from dataclasses import fields

import pytest
from honcho.environ import parse_procfile
from packaging.requirements import Requirement

from jiffy.errors import InvalidSetting
from jiffy.settings import Settings, read
from tests.support.newcomer import CHECKOUT

SETTINGS_PAGE = (CHECKOUT / "docs" / "settings.md").read_text()
EXAMPLE = (CHECKOUT / ".env.example").read_text()
SETTINGS = [setting.name.upper() for setting in fields(Settings)]
# Read by a job, not by the engine.
OF_JOBS = {"SMTP_URL", "SMTP_FROM"}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented(name):
    assert f"`{name}`" in SETTINGS_PAGE


# What is shown for the others is not a value: "made for each run", "the cores".
@pytest.mark.parametrize("row", re.findall(r"\n\| (`[A-Z][^|]*) \| (`[^|]*`) \|", SETTINGS_PAGE))
def test_a_default_that_is_documented_is_that_of_the_program(row):
    names, defaults = (re.findall(r"`(.+?)`", column) for column in row)
    for name, default in zip(names, defaults, strict=False):
        if name not in ("REDIS_TLS_VERIFY", "OPTIONS", "HOOKS"):
            assert read({name: default}) == Settings(), name


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_in_the_example(name):
    assert re.search(rf"^#{name}=", EXAMPLE, re.MULTILINE)


def test_the_example_can_be_used_as_it_is_but_for_its_secrets():
    written = dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    read(written | {"DYNO": ""})
    for name in ("DASHBOARD_PASSWORD", "API_TOKEN", "API_READ_TOKEN"):
        with pytest.raises(InvalidSetting, match=name):
            read({"JIFFY_ENV": "production", name: written[name]})

    assert written.keys() == set(SETTINGS) | OF_JOBS


def test_the_manifest_sets_only_what_is_read():
    manifest = json.loads((CHECKOUT / "app.json").read_text())

    assert manifest["env"].keys() <= set(SETTINGS)


def test_the_manifest_and_the_procfile_name_the_same_processes():
    manifest = json.loads((CHECKOUT / "app.json").read_text())
    processes = parse_procfile((CHECKOUT / "Procfile").read_text()).processes

    assert processes.keys() == manifest["formation"].keys() | {"release"}


def test_heroku_finds_one_file_of_requirements_only():
    others = ("Pipfile", "poetry.lock", "uv.lock", "setup.py", "runtime.txt")

    assert [name for name in others if (CHECKOUT / name).exists()] == []
    assert (CHECKOUT / ".python-version").read_text().strip() in ("3.11", "3.12", "3.13")


def test_the_pinned_requirements_are_those_of_the_package():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["dashboard"], *extras["dev"][1:]]
    ranges = {one.name: one.specifier for one in map(Requirement, needed)}
    pinned = {
        one.name: next(iter(one.specifier)).version
        for name in ("requirements.txt", "requirements-run.txt")
        for one in map(Requirement, requirements(name))
    }

    # RQ brings click; pillow is for the jobs that only this repository has.
    assert pinned.keys() == ranges.keys() - {"click"} | {"pillow"}
    assert [
        name for name in ranges.keys() & pinned.keys() if pinned[name] not in ranges[name]
    ] == []


def requirements(name):
    lines = (CHECKOUT / name).read_text().splitlines()
    return [line.partition("  #")[0] for line in lines if line and not line.startswith("#")]
