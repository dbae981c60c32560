"""The package as others install it: beside a Flask project of theirs, and in an empty folder."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import playwright
import pytest

from jiffy import keys
from jiffy.producer.enqueue import Job
from tests.support.newcomer import (
    CHECKOUT,
    PATIENCE_S,
    make_run,
    new_folder,
    newcomers_environ,
    wait_until,
)
from tests.support.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(360)]

# What a project may look like that was there before; nothing in it has a name that we would choose.
SHOP = {
    "shop/__init__.py": "",
    "shop/tasks.py": """
def charge(amount: int) -> str:
    return f"charged {amount}"
""",
    "shop/queue.py": """
from jiffy import options
from shop import tasks

OPTIONS = {tasks.charge: options(queue="low", timeout="9m")}
""",
    "shop/schedule.py": """
from jiffy import every
from shop import tasks

SCHEDULE = [every("1s", tasks.charge, args=[7], overlap="allow")]
""",
    "app.py": """
from flask import Flask
from jiffy import enqueue
from shop import tasks

app = Flask(__name__)


@app.post("/charge/<int:amount>")
def charge(amount: int) -> dict[str, str]:
    return {"id": enqueue(tasks.charge, amount).id}
""",
}
WRONG = {
    "app.py": """
from jiffy import enqueue
from shop import tasks

enqueue(tasks.charge, "much")
"""
}
CHARGE = "shop.tasks.charge 21"
CORE_ONLY = "import jiffy; from jiffy import enqueue, every, Retry; print(jiffy.__file__)"


def run(*command, cwd, **environ):
    """What the command prints; it has to succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=newcomers_environ() | environ, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """An environment with the package in it, made once for all test processes.

    `core.json` in it has what was printed while nothing but the core was installed.
    """
    here = tmp_path_factory.getbasetemp()  # below it, if this is one of several test processes
    home = (here.parent if here.name.startswith("popen") else here) / "installed"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "core.json").exists():
            make(home)
    return home


def make(home):
    """Build the sdist, the wheel out of that, and an environment with the wheel in it."""
    run(sys.executable, "-m", "build", "--outdir", home, CHECKOUT, cwd=home)
    [wheel] = home.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", home / "env", cwd=home)
    pip = (sys.executable, "-m", "pip", "--python", home / "env/bin/python", "install", "-q")
    run(*pip, wheel, cwd=home)
    core = [
        run(home / "env/bin/python", "-c", CORE_ONLY, cwd=home),
        run(home / "env/bin/jiffy", "--help", cwd=home),
        failure(home, "dashboard"),
        failure(home, "dev"),
    ]
    run(*pip, f"{wheel}[dev]", cwd=home)
    (home / "core.json").write_text(json.dumps(core))


def failure(home, name):
    done = subprocess.run(
        [home / "env/bin/jiffy", name], cwd=home, env=newcomers_environ(), text=True,
        capture_output=True,
    )  # fmt: skip
    return [done.returncode, done.stdout + done.stderr]


class Project:
    """A folder with files, and the package installed for it."""

    def __init__(self, folder, programs, redis_url):
        self.folder, self.programs = folder, programs
        self.environ = {"REDIS_URL": redis_url, "JOBS_MODULES": "shop.tasks"}
        self.environ |= {"OPTIONS": "shop.queue:OPTIONS", "PYTHONUNBUFFERED": "1"}

    def write(self, files):
        for name, text in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)

    def run(self, program, *words):
        return run(self.programs / program, *words, cwd=self.folder, **self.environ)

    @contextmanager
    def running(self, *words, **environ):
        """A `jiffy` with these words that runs beside the test; its log is a file."""
        log = self.folder / f"{words[0]}.log"
        with log.open("a") as out:  # two programs of one name write into one
            process = subprocess.Popen(
                [self.programs / "jiffy", *words], cwd=self.folder, stdout=out, stderr=out,
                env=newcomers_environ() | self.environ | environ, start_new_session=True,
            )  # fmt: skip
        try:
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0, log.read_text()


@pytest.fixture
def shop(installed, tmp_path, redis, redis_address):
    """A Flask project that was there before."""
    project = Project(tmp_path, installed / "env/bin", redis_address)
    project.write(SHOP)
    return project


def finished(redis, queue):
    return [raw.decode() for raw in redis.zrange(keys.REGISTRIES["finished"] + queue, 0, -1)]


def test_only_the_core_is_needed_to_enqueue_and_what_is_missing_is_one_line(installed):
    where, commands, dashboard, dev = json.loads((installed / "core.json").read_text())

    assert Path(where).is_relative_to(installed / "env")
    assert "Commands:" in commands
    assert dashboard == [2, "No module named 'flask'. Run: pip install 'jiffy[dashboard]'\n"]
    assert dev == [2, "No module named 'dotenv'. Run: pip install 'jiffy[dev]'\n"]


def test_the_project_enqueues_and_a_worker_runs_it_with_its_usual_options(shop, redis):
    code = "from app import app; print(app.test_client().post('/charge/21').json['id'])"
    job_id = shop.run("python", "-c", code).strip()
    shop.run("jiffy", "worker", "--burst")
    job = Job.fetch(job_id, connection=redis)

    assert (job.origin, job.timeout, job.return_value()) == ("low", 540, "charged 21")


def test_a_shell_enqueues_and_waits(shop):
    with shop.running("worker", "-n", "1", "low"):
        said = shop.run("jiffy", "enqueue", "shop.tasks.charge", "-21", "--wait")

    assert said.endswith("charged -21\n")


@pytest.mark.parametrize(
    "programs",
    [
        [["scheduler", "shop.schedule:SCHEDULE"], ["worker"]],
        [["worker", "--with-scheduler", "shop.schedule:SCHEDULE"]],
    ],
)
def test_the_schedule_runs_with_the_usual_options(shop, redis, programs):
    with shop.running(*programs[0]), shop.running(*programs[-1]):
        wait_until(lambda: finished(redis, "low"))
    job = Job.fetch(finished(redis, "low")[0], connection=redis)

    assert (job.timeout, job.return_value()) == (540, "charged 7")


def test_the_dashboard_is_there_with_its_pages_and_styles(shop, redis_address):
    port = free_port()
    del shop.environ["REDIS_URL"]
    with shop.running("dashboard", redis_address, PORT=str(port)) as log:
        wait_until(lambda: "web.started" in log.read_text())
        pages = {
            path: urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read().decode()
            for path in ("/healthz", "/login", "/static/style.css")
        }

    assert json.loads(pages["/healthz"])["redis"] == "ok"
    assert "<form" in pages["/login"]
    assert "{" in pages["/static/style.css"]


def test_a_wrong_call_is_an_error_for_mypy_and_for_pyright(shop, installed):
    checkers = {
        "mypy": ("--strict", "--python-executable", installed / "env/bin/python"),
        "pyright": ("--pythonpath", installed / "env/bin/python"),
    }
    # Playwright brings the Node that pyright runs on.
    path = os.pathsep.join([str(Path(playwright.__file__).parent / "driver"), os.environ["PATH"]])
    for name, words in checkers.items():
        command = [Path(sys.prefix, "bin", name), *words, "app.py"]
        shop.write(SHOP)
        run(*command, cwd=shop.folder, PATH=path)
        shop.write(WRONG)
        with pytest.raises(AssertionError, match=r"app\.py:5.*error: Arg.*int"):
            run(*command, cwd=shop.folder, PATH=path)


def test_a_shell_completes_what_is_typed(shop):
    shop.environ |= {"_JIFFY_COMPLETE": "bash_complete", "COMP_WORDS": "jiffy sch"}
    shop.environ["COMP_CWORD"] = "1"

    assert shop.run("jiffy") == "plain,scheduler\n"


def test_everything_of_a_project_with_a_procfile_of_its_own_starts_with_one_command(shop):
    shop.write(
        {"Procfile": "web: waitress-serve --listen=127.0.0.1:$PORT app:app\nrelease: false\n"}
    )
    command = (shop.programs / "jiffy", "dev", "shop.schedule:SCHEDULE", "--job", CHARGE)
    with make_run(shop.folder, command=command, **shop.environ) as dev:
        dev.wait_until_ready()
        charged, address = dev.after("Sample job"), dev.after("Dashboard")
        web = re.search(r"web\.1 .*Serving on (\S+)", dev.said)[1]
        answer = urllib.request.urlopen(f"{web}/charge/5", data=b"").read()
        wait_until(lambda: "tick.enqueued" in dev.said)
        dev.press_ctrl_c()
        dev.wait_until_none_is_left()

    assert charged == "charged 21"
    assert web not in address
    assert json.loads(answer)["id"]


def test_an_empty_folder_becomes_a_project_by_doing_what_init_prints(installed):
    path = os.pathsep.join([str(installed / "env/bin"), os.environ["PATH"]])
    with new_folder() as folder:
        folder.mkdir()
        said = run(installed / "env/bin/jiffy", "init", cwd=folder)
        assert re.search(r"^  pip install 'jiffy\[dev\] @ file://\S+\.whl'  ", said, re.MULTILINE)
        start, second = re.findall(r"^  (jiffy .*?)  ", said, re.MULTILINE)
        with make_run(folder, command=start.split(), PATH=path) as dev:
            dev.wait_until_ready()
            assert dev.after("Sample job") == "5"
            assert dev.type(second).endswith("\n5\n")
            assert "jobs.numbers.add " in dev.type("jiffy scheduler list")
            dev.press_ctrl_c()
            dev.wait_until_none_is_left()


def test_init_writes_what_stands_in_the_repository_and_overwrites_nothing(installed, tmp_path):
    (tmp_path / "worker.py").write_text("mine")
    said = run(installed / "env/bin/jiffy", "init", tmp_path, cwd=tmp_path)

    assert "Unchanged: worker.py." in said
    assert (tmp_path / "worker.py").read_text() == "mine"
    for name in ("dashboard.py", "Procfile", ".env.example", ".python-version", "jobs/numbers.py"):
        assert (tmp_path / name).read_text() == (CHECKOUT / name).read_text()
    said = run(installed / "env/bin/python", "scheduler.py", "--check", cwd=tmp_path)
    assert said.startswith("2 entries, all valid.")
