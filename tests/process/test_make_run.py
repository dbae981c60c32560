"""`make run` in a fresh clone, as a newcomer types it: from nothing to the picture, and back."""

import socket
from contextlib import contextmanager

import pytest
from PIL import Image

from jiffy import keys
from tests.support.browser import find_browser, open_browser
from tests.support.newcomer import (
    CHECKOUT,
    clone,
    clone_set_up,
    edit,
    make_run,
    new_folder,
    read,
    wait_until,
)

SCREENSHOT = CHECKOUT / "build/screenshot.png"
PYTHON = ". .venv/bin/activate; python"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(360)]

NAP = """
import time
from pathlib import Path

def nap(seconds: float) -> None:
    Path("samples/napping").touch()
    time.sleep(seconds)
"""


@pytest.fixture
def folder():
    """Where to clone to."""
    with new_folder() as folder:
        yield folder


@contextmanager
def logged_in(run):
    user, password = run.after("Log in").split(" / ")
    with open_browser(viewport={"width": 1280, "height": 640}) as page:
        page.goto(run.after("Dashboard"))
        page.fill("[name=user]", user)
        page.fill("[name=password]", password)
        page.click("button:has-text('Log in')")
        page.wait_for_selector("text=jobs.images.resize")
        yield page


def take_the_readmes_screenshot(page, run):
    """Show a bit of everything: jobs that wait, one that failed, one for later."""
    run.type(f"{PYTHON} enqueue.py jobs.reports.last_day samples/day.html --queue low --wait")
    run.type(f"{PYTHON} enqueue.py jobs.images.resize samples/gone.jpg 200 --wait || true")
    run.type(f"{PYTHON} enqueue.py jobs.numbers.add 2 3 --queue high --in 5m")
    page.wait_for_selector("text=samples/gone.jpg")
    SCREENSHOT.parent.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOT)


@pytest.mark.browser
def test_a_newcomer_sees_the_sample_job_finished_and_nothing_is_left_behind(folder):
    find_browser()
    with make_run(clone(folder)) as run:
        run.wait_until_ready()
        with Image.open(folder / run.after("Sample job")) as picture:
            assert picture.size == (200, 150)

        with logged_in(run) as page:
            row = page.locator("table.jobs tr", has_text="jobs.images.resize").first
            assert "finished" in row.inner_text().lower()
            take_the_readmes_screenshot(page, run)

        run.press_ctrl_c()
        run.wait_until_none_is_left()


def test_ctrl_c_while_a_job_runs_leaves_nothing_behind(folder):
    clone_set_up(folder)
    (folder / "jobs/naps.py").write_text(NAP)
    with make_run(folder) as run:
        run.wait_until_ready()
        run.type(f"{PYTHON} enqueue.py jobs.naps.nap 300")
        wait_until((folder / "samples/napping").exists)

        run.press_ctrl_c()
        run.wait_until_none_is_left()


def test_a_job_that_is_edited_runs_as_it_is_now(folder):
    clone_set_up(folder)
    jobs = folder / "jobs/numbers.py"
    with make_run(folder) as run:
        run.wait_until_ready()
        text = jobs.read_text().replace("x + y", "10 * (x + y)")
        edit(jobs, text, lambda: "worker.reloaded" in run.said)

        assert run.type(f"{PYTHON} enqueue.py jobs.numbers.add 2 3 --wait").splitlines()[-1] == "50"
        run.press_ctrl_c()
        run.wait_until_none_is_left()


def test_an_entry_that_is_added_runs_and_an_invalid_schedule_changes_nothing(folder):
    schedule = clone_set_up(folder) / "scheduler.py"
    (folder / "jobs/.#numbers.py").symlink_to("ann@machine.1")  # Emacs' lock of a file
    before = schedule.read_text()
    valid = before.replace("import cleanup", "import numbers, cleanup").replace(
        "SCHEDULE = [", 'SCHEDULE = [every("1s", numbers.add, args=[2, 3]),'
    )
    with make_run(folder) as run:
        run.wait_until_ready()
        wait_until(lambda: "scheduler.started" in run.said)
        schedule.write_text(before.replace("SCHEDULE = [", "SCHEDULE = [None,"))
        wait_until(lambda: "reload.failed" in run.said)
        assert "entry 1: it is a NoneType, not an entry; write every(...)" in run.said

        schedule.write_text(valid)
        wait_until(lambda: "tick.enqueued entry=jobs.numbers.add" in run.said)
        run.press_ctrl_c()
        run.wait_until_none_is_left()


def test_a_process_that_ends_by_itself_stops_everything_and_the_last_line_says_which(folder):
    schedule, procfile = clone_set_up(folder) / "scheduler.py", folder / "Procfile"
    schedule.write_text(schedule.read_text().partition("\nif __name__")[0])
    with make_run(folder) as run:
        run.wait_until_none_is_left()
        run.is_over.wait()

    assert run.lines[-1] == (
        "Everything has stopped: scheduler.1 ended by itself, with status 0. At its end, "
        'scheduler.py lacks `if __name__ == "__main__": run_scheduler(SCHEDULE)`.'
    )
    schedule.unlink()
    procfile.write_text(
        procfile.read_text().replace("python scheduler.py", "exit 3 # scheduler.py")
    )
    with make_run(folder) as run:
        run.wait_until_none_is_left()
        run.is_over.wait()

    line = "Everything has stopped: scheduler.1 ended by itself, with status 3."
    assert [one for one in run.lines if "has stopped" in one] == [line]


def test_sigterm_ends_it_like_ctrl_c(folder):
    with make_run(clone_set_up(folder)) as run:
        run.wait_until_ready()

        run.process.terminate()
        run.wait_until_none_is_left()
        assert "Everything has stopped" not in run.said


def test_a_second_start_goes_on_with_what_the_first_has_left(folder):
    clone_set_up(folder)
    for count in (1, 2):
        with make_run(folder) as run:
            run.wait_until_ready()
            shown = run.type('. .venv/bin/activate; rq info --url "unix://$PWD/.redis/redis.sock"')
            run.press_ctrl_c()
            run.wait_until_none_is_left()

        assert f"{2 * count} finished" in shown


def test_a_busy_port_is_passed_over_and_it_says_so(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with make_run(clone_set_up(folder), PORT=str(port)) as run:
            run.wait_until_ready()

            assert f"Port {port} is in use; the dashboard uses " in run.said
            assert f":{port}/" not in run.after("Dashboard")


def test_a_redis_of_the_users_own_is_used_and_left_alone(folder, redis, redis_address):
    with make_run(clone_set_up(folder), REDIS_URL=redis_address) as run:
        run.wait_until_ready()
        run.press_ctrl_c()
        run.wait_until_none_is_left()

    assert redis.zcard(f"{keys.RQ}finished:default") == 2
    assert not list((folder / ".redis").glob("redis*"))


def test_settings_are_taken_from_the_file_env_but_the_environment_wins(folder):
    clone_set_up(folder)
    password = "it's my own#one"
    (folder / ".env").write_text(f"DASHBOARD_USER=ada\nexport DASHBOARD_PASSWORD={password}\n")
    with make_run(folder, DASHBOARD_USER="grace") as run:
        run.wait_until_ready()
        environs = [read(f"/proc/{pid}/environ").split(b"\0") for pid in run.left()]

        assert run.after("Log in") == "grace / your DASHBOARD_PASSWORD"
        assert f"DASHBOARD_PASSWORD={password}".encode() in environs[-1]


def test_a_password_in_an_old_encoding_is_named_and_not_shown(folder):
    password = "открытая дверь".encode("koi8-r")
    (clone_set_up(folder) / ".env").write_bytes(b"DASHBOARD_PASSWORD=" + password)
    with make_run(folder) as run:
        run.is_over.wait()

    assert "DASHBOARD_PASSWORD is '***'; it must be text in UTF-8." in run.said
    assert "Traceback" not in run.said


def test_a_line_of_the_file_env_that_cannot_be_read_is_named(folder):
    (clone_set_up(folder) / ".env").write_text("# mine\nSECRET_KEY='open\n")
    with make_run(folder) as run:
        run.is_over.wait()

    assert """.env, line 2: "SECRET_KEY='open" is no NAME=value.""" in run.said
    assert "Traceback" not in run.said


def test_a_redis_that_is_away_is_one_line(folder):
    with make_run(clone_set_up(folder), REDIS_URL="redis://127.0.0.1:1/0") as run:
        run.process.wait()

    assert run.lines[0].startswith("No Redis at redis://127.0.0.1:1/0 (connection refused).")
    assert "Traceback" not in run.said
