"""New code reaches running workers: at SIGHUP, and with --reload when a file changes."""

import shutil
import signal
from pathlib import Path

import pytest

from jiffy.producer.enqueue import Queue
from tests.support.newcomer import CHECKOUT, edit, wait_until
from tests.support.worker_processes import until_over
from tests.support.worker_support import reason

pytestmark = pytest.mark.slow

WAITS = """
import time
from pathlib import Path

def wait(folder):
    Path(folder, "begun").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    {}
"""
OLD, NEW = WAITS.format("return 'old'"), WAITS.format("return 'the new one'")
# What a module opens keeps the supervisor from importing it: each child does so for itself.
OPENS = "\nimport socket\n\nOPENED = socket.socketpair()\n"


@pytest.fixture
def start(start_worker, tmp_path):
    def run(text, *words, count=1, **environ):
        (tmp_path / "shop_code.py").write_text(text)
        environ = {"JOBS_MODULES": "shop_code", "PYTHONPATH": str(tmp_path)} | environ
        return start_worker("-n", f"{count}", *words, **environ)

    return run


def run(redis, worker, tmp_path):
    (tmp_path / "go").touch()
    job = Queue(connection=redis).enqueue("shop_code.wait", str(tmp_path))
    until_over(worker, redis, job.id)
    return job.return_value()


@pytest.mark.parametrize("more", ["", OPENS])
def test_at_sighup_children_run_the_new_code_and_no_job_is_interrupted(
    start, redis, tmp_path, more
):
    worker = start(OLD + more, count=2)
    running = Queue(connection=redis).enqueue("shop_code.wait", str(tmp_path))
    worker.until((tmp_path / "begun").exists)
    (tmp_path / "shop_code.py").write_text(NEW + more)
    worker.send_to_all(signal.SIGHUP)
    worker.until_logged("worker.reloaded")
    worker.until(lambda: running.get_status() == "started")
    after = run(redis, worker, tmp_path)
    until_over(worker, redis, running.id)

    assert after == "the new one"
    assert running.return_value() == "old"
    assert run(redis, worker, tmp_path) == "the new one"
    assert not worker.lines("worker.died")


def test_a_sighup_that_comes_while_a_worker_starts_is_obeyed_once_it_has(start, redis, tmp_path):
    waits = OLD + f"\nPath({f'{tmp_path}'!r}, 'begun').touch()\n"
    waits += f"while not Path({f'{tmp_path}'!r}, 'go').exists():\n    time.sleep(0.01)\n"
    worker = start(waits)
    worker.until((tmp_path / "begun").exists)
    worker.send(signal.SIGHUP)
    (tmp_path / "go").touch()
    worker.until_logged("worker.reloaded")

    assert run(redis, worker, tmp_path) == "old"


def test_a_job_that_fails_while_its_child_is_to_be_replaced_has_failed(start, redis, tmp_path):
    worker = start(WAITS.format("raise ValueError('no card')"))
    failing = Queue(connection=redis).enqueue("shop_code.wait", str(tmp_path))
    worker.until((tmp_path / "begun").exists)
    worker.send(signal.SIGHUP)
    worker.until_logged("worker.reloaded")
    (tmp_path / "go").touch()
    until_over(worker, redis, failing.id)

    assert failing.get_status() == "failed"


@pytest.mark.parametrize(
    ("text", "why"), [("def wait(:\n", "SyntaxError"), ("import no_such\n", "no_such")]
)
def test_code_that_cannot_be_imported_is_not_used_and_one_line_says_so(
    start, redis, tmp_path, text, why
):
    worker = start(OLD)
    assert run(redis, worker, tmp_path) == "old"
    (tmp_path / "shop_code.py").write_text(text)
    worker.send(signal.SIGHUP)
    line = worker.until_logged("reload.failed")

    assert why in line
    assert "effect='the workers keep the code they have'" in line
    assert run(redis, worker, tmp_path) == "old"
    assert "Traceback" not in worker.log


def replace_engine(engine):
    """Put a version there in which the supervisor and its children share other things."""
    board = engine / "worker" / "shared_memory.py"
    board.write_text(
        board.read_text().replace("    is_asleep: int", "    is_new: int\n    is_asleep: int")
    )


def test_a_deploy_in_place_mixes_no_two_versions_of_the_engine(start_worker, redis, tmp_path):
    engine = tmp_path / "jiffy"
    shutil.copytree(CHECKOUT / "jiffy", engine, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "worker.py", tmp_path)
    (tmp_path / "shop_code.py").write_text(OLD)
    environ = {"JOBS_MODULES": "shop_code", "PYTHONPATH": str(tmp_path)}
    worker = start_worker("-n", "1", home=tmp_path, **environ)
    running = Queue(connection=redis).enqueue("shop_code.wait", str(tmp_path))
    worker.until((tmp_path / "begun").exists)
    for script in (engine / "scripts").iterdir():
        script.write_text("of the next release")
    replace_engine(engine)
    worker.send(signal.SIGHUP)
    line = worker.until_logged("reload.failed")

    assert run(redis, worker, tmp_path) == running.return_value() == "old"
    assert "reason='Jiffy itself has changed: restart the workers'" in line
    assert "Traceback" not in worker.log


def test_no_child_of_another_version_of_the_engine_runs_jobs(start_worker, redis, tmp_path):
    engine = tmp_path / "jiffy"
    shutil.copytree(CHECKOUT / "jiffy", engine, ignore=shutil.ignore_patterns("__pycache__"))
    # What a program has open keeps it from forking: each child is spawned.
    (tmp_path / "worker.py").write_text(OPENS + (CHECKOUT / "worker.py").read_text())
    (tmp_path / "shop_code.py").write_text(OLD)
    environ = {"JOBS_MODULES": "shop_code", "PYTHONPATH": str(tmp_path)}
    worker = start_worker("-n", "1", home=tmp_path, **environ)
    assert run(redis, worker, tmp_path) == "old"
    replace_engine(engine)
    worker.kill_children()
    line = worker.until_logged("child.refused")

    assert "reason='Jiffy itself has changed: restart the workers'" in line
    assert "Traceback" not in worker.log


def watched(worker):
    """The folders that its processes watch."""
    notes = [
        note.read_text() for pid in worker.pids() for note in Path(f"/proc/{pid}/fdinfo").glob("*")
    ]
    return [line for note in notes for line in note.splitlines() if line.startswith("inotify")]


@pytest.mark.parametrize("how", [["--reload"], []])
def test_a_change_of_a_file_reloads(start, redis, tmp_path, how):
    (tmp_path / "node_modules").mkdir()
    worker = start(OLD, *how, RELOAD="no" if how else "yes")
    assert run(redis, worker, tmp_path) == "old"

    edit(tmp_path / "shop_code.py", NEW, lambda: worker.lines("worker.reloaded"))
    assert len(watched(worker)) == 1  # not what is below the folder, which may be a project's
    wait_until(lambda: run(redis, worker, tmp_path) == "the new one")


def test_a_call_that_the_new_code_takes_fails_in_the_old_and_says_why(start, redis, tmp_path):
    worker = start(OLD)
    assert run(redis, worker, tmp_path) == "old"
    (tmp_path / "shop_code.py").write_text(NEW.replace("(folder)", "(folder, more)"))
    job = Queue(connection=redis).enqueue("shop_code.wait", str(tmp_path), more=1)
    until_over(worker, redis, job.id)

    assert "shop_code has changed since this process imported it: restart" in reason(redis, job.id)
