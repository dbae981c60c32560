"""Every program ends with one line that names the cause and the setting, and with its exit code."""

import shutil
import subprocess
import sys

import pytest

from tests.support import troubles
from tests.support.newcomer import CHECKOUT
from tests.support.troubles import SECRET, TROUBLES

pytestmark = pytest.mark.slow

PROGRAMS = (
    "enqueue.py jobs.numbers.add 2 3",
    "worker.py --burst",
    "worker.py --burst --with-scheduler",
    "scheduler.py",
    "scheduler.py --dry-run",
    "scheduler.py list",
)
# The others differ in what Redis says, which is one table for all programs.
TOLD_BY_ALL = (
    troubles.nothing_there,
    troubles.wrong_password,
    troubles.no_rights,
    troubles.no_such_database,
    troubles.no_connection_left,
    troubles.still_loading,
    troubles.cluster,
    troubles.sentinel_as_redis,
    troubles.untrusted_certificate,
    troubles.plain_asked_for_with_tls,
)


@pytest.mark.parametrize(
    "trouble",
    [trouble for trouble in TROUBLES if trouble.start in TOLD_BY_ALL],
    ids=lambda trouble: trouble.start.__name__,
)
def test_a_redis_that_cannot_be_used_is_one_line_and_an_exit_code(trouble, environ, tmp_path):
    with trouble.start(tmp_path) as url:
        environ(REDIS_URL=url)
        said = dict(
            zip(PROGRAMS, [end(begun) for begun in list(map(begin, PROGRAMS))], strict=True)
        )

    for program, (code, _, errors) in said.items():
        assert code == trouble.error.exit_code, (program, errors)
        assert errors.startswith("No Redis at "), (program, errors)
        assert f" ({trouble.reason}" in errors, (program, errors)
        assert f"). {trouble.remedy}" in errors, (program, errors)
        assert errors.count("\n") == 1, (program, errors)
        assert SECRET not in errors, (program, errors)


@pytest.mark.parametrize("program", [*PROGRAMS, "scheduler.py --check", "dashboard.py"])
def test_a_raw_character_of_a_password_is_one_line_and_exit_code_2(program, environ):
    environ(REDIS_URL=f"redis://:{SECRET}#{SECRET}@127.0.0.1:1/0")

    assert end(begin(program)) == (
        2,
        "",
        "REDIS_URL is 'redis://***@127.0.0.1:1/0'; it must be a URL whose password is "
        "percent-encoded: # is %23, / is %2F, ? is %3F, @ is %40.\n",
    )


def test_a_check_of_the_table_needs_no_redis(environ):
    environ(REDIS_URL="redis://127.0.0.1:1/0")
    code, _, errors = end(begin("scheduler.py --check"))

    assert (code, errors) == (0, "")


RELEASE = {"DYNO": "release.1", "DASHBOARD_PASSWORD": "a password of mine", "SECRET_KEY": "k" * 32}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY is not set. Production needs one, the same in every "),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is '***'; it must be at least 32 characters, "),
        ({"DASHBOARD_PASSWORD": "p" * 11}, "DASHBOARD_PASSWORD is '***'; it must be at least 12 "),
        ({"API_TOKEN": "choose-one"}, "API_TOKEN is '***'; it must be at least 20 characters, "),
        ({"API_READ_TOKEN": "t" * 19}, "API_READ_TOKEN is '***'; it must be at least 20 "),
        ({"ALLOWED_HOSTS": "https://jobs.example"}, "ALLOWED_HOSTS is 'https://jobs.example'; it"),
        ({"DASHBOARD_PASSWORD": None}, "DASHBOARD_PASSWORD is not set. Production needs one, "),
        ({"REDIS_URL": None}, "REDIS_URL is not set. Production needs a Redis of its own: "),
        ({"REDIS_URL": "localhost"}, "REDIS_URL is 'localhost'; it must be a redis://, "),
        ({"WORKERS": "many"}, "WORKERS is 'many'; it must be a whole number from 1."),
        ({"OPTIONS": "gone:OPTIONS"}, "OPTIONS is 'gone:OPTIONS'; it must be in a module that "),
        ({"HOOKS": "worker:GONE"}, "HOOKS is 'worker:GONE'; it must be a name that worker defines"),
    ],
)
def test_a_release_stops_at_a_wrong_setting(values, line, environ):
    environ(**RELEASE | values)
    code, output, errors = end(begin("scheduler.py --check"))

    assert (code, output) == (2, "")
    assert errors.startswith(line)
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "program", ["worker.py --burst", "scheduler.py", "scheduler.py --check", "dashboard.py"]
)
@pytest.mark.parametrize(
    ("name", "value", "missing"),
    [
        ("JOBS_MODULES", "jobz", "it must be modules that exist; there is no 'jobz' in /"),
        ("JOBS_MODULES", "jobs,jobs.sums", "it must be modules that exist; there is no"),
        ("OPTIONS", "shop.queue:OPTIONS", "it must be in a module that exists; there is no 'shop."),
    ],
)
@pytest.mark.usefixtures("redis")
def test_a_module_that_does_not_exist_stops_a_process_at_its_start(
    program, name, value, missing, environ
):
    environ(**{name: value})
    code, output, errors = end(begin(program))

    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"{name} is '{value}'; {missing}")


@pytest.mark.parametrize("typed", ["worker --burst", "enqueue jobs.numbers.add 1 2"])
def test_a_folder_without_jobs_is_named_and_nothing_is_left_in_it(typed, environ, tmp_path):
    package, folder = tmp_path / "installed", tmp_path / "empty"
    shutil.copytree(CHECKOUT / "jiffy", package / "jiffy")
    folder.mkdir()
    environ(PYTHONPATH=str(package), REDIS_URL=None)

    code, _, errors = end(begin(f"-m jiffy {typed}", folder))

    assert code == 2
    assert errors.endswith(f"it must be modules that exist; there is no 'jobs' in {folder}.\n")
    assert [*folder.iterdir()] == []


def test_a_check_imports_the_jobs_and_names_one_that_cannot_be(environ, tmp_path):
    (tmp_path / "scheduler.py").write_text("SCHEDULE = []\n")
    (tmp_path / "shop.py").write_text("def charge(:\n")
    environ(JOBS_MODULES="shop", PYTHONPATH=f"{tmp_path}:{CHECKOUT}")

    assert end(begin("-m jiffy scheduler --check", tmp_path)) == (
        2,
        "",
        "shop cannot be imported: SyntaxError: invalid syntax (shop.py, line 1)\n",
    )


def test_a_release_stops_at_a_redis_that_refuses_it(environ, tmp_path):
    with troubles.wrong_password(tmp_path) as url:
        environ(**RELEASE, REDIS_URL=url)
        code, output, errors = end(begin("scheduler.py --check"))

    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert " (wrong password, or no such user). Check REDIS_URL: " in errors


def test_a_release_with_all_settings_shows_the_schedule(environ):
    environ(**RELEASE)
    code, output, errors = end(begin("scheduler.py --check"))

    assert (code, errors) == (0, "")
    assert "cron '0 6 * * *' on the clock of Europe/Paris" in output


def test_a_release_without_a_dashboard_needs_no_password(environ, tmp_path):
    (tmp_path / "Procfile").write_text("worker: jiffy worker\nrelease: jiffy scheduler --check\n")
    (tmp_path / "scheduler.py").write_text("SCHEDULE = []\n")
    environ(DYNO="release.1", PYTHONPATH=str(CHECKOUT))
    code, _, errors = end(begin("-m jiffy scheduler --check", tmp_path))

    assert (code, errors) == (0, "")


def begin(program, folder=CHECKOUT):
    return subprocess.Popen(
        [sys.executable, *program.split()],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(process):
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors
