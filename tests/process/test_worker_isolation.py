"""What a module opens as it is imported belongs to one child: jobs get their own replies."""

import re
import signal
import socketserver
import threading

import pytest
from rq import Callback
from rq.command import send_stop_job_command

from jiffy import keys
from jiffy.producer.enqueue import Job, Queue
from tests.support.newcomer import CHECKOUT
from tests.support.postgres import start_postgres
from tests.support.troubles import sentinel, serving
from tests.support.worker_processes import let_go_on, until_over, until_said
from tests.support.worker_support import queued, reason, said

pytestmark = pytest.mark.slow

JOBS = 40
ANSWERS = [f"answer to {number}" for number in range(JOBS)]
WORKER = """
from jiffy.cli import main
from tests.support.opened import {opens}

if __name__ == "__main__":
    main("worker")
"""
SCHEDULER = """
from jiffy import every, run_scheduler
from tests.support.opened import tcp

SCHEDULE = [every("1h", tcp.ask, args=[1])]
"""


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            threading.Event().wait(0.01)  # so that several children wait for it at a time
            self.wfile.write(b"answer to " + line)


@pytest.fixture
def echo():
    """A TCP server that echoes lines; its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL."""
    with start_postgres() as address:
        yield address


@pytest.fixture
def start(start_worker, echo, tmp_path):
    """Start a worker of four children that imports these of tests/support/opened."""

    def run(*modules, words=(), **options):
        places = {"ECHO_PORT": f"{echo}", "SQLITE": f"{tmp_path}/test.db", "LOG": f"{tmp_path}/log"}
        names = ",".join(f"tests.support.opened.{module}" for module in modules)
        return start_worker("-n", "4", *words, **{"JOBS_MODULES": names} | places | options)

    return run


@pytest.fixture
def start_own(start, tmp_path):
    """The same with a `worker.py` that opens something itself, before it starts workers."""

    def run(*modules, opens, **options):
        home = tmp_path / "home"
        home.mkdir()
        (home / "worker.py").write_text(WORKER.format(opens=opens))
        (home / "scheduler.py").write_text(SCHEDULER)
        return start(*modules, home=home, **{"PYTHONPATH": f"{CHECKOUT}"} | options)

    return run


def ask_all(worker, redis, module):
    """Ask by one job each; give the answers in their order."""
    queue = Queue("default", connection=redis)
    ids = [f"job-{number}" for number in range(JOBS)]
    for number, job_id in enumerate(ids):
        queue.enqueue(f"tests.support.opened.{module}.ask", number, job_id=job_id, job_timeout=30)
    until_over(worker, redis, *ids)
    return [result(redis, job_id) for job_id in ids]


def result(redis, job_id):
    return Job.fetch(job_id, connection=redis).return_value()


def leases(redis):
    """Until when each worker is taken to live."""
    return [until for _, until in redis.zrange(keys.LEASES, 0, -1, withscores=True)]


def openers(worker):
    """Which module opened what, as the log tells."""
    fields = re.compile(
        r"module=(.+) opened=(.+) effect=.+ remedy='open it inside the function that"
    )
    found = [fields.search(line).groups() for line in worker.lines("module.opened")]
    return {module: opened.strip("'\"") for module, opened in found}


@pytest.mark.parametrize("module", ["event_loop", "sqlite", "tcp", "thread"])
def test_each_job_gets_the_reply_to_its_own_question(start, redis, module):
    assert ask_all(start(module), redis, module) == ANSWERS


def test_behind_sentinels_the_jobs_modules_are_loaded_before_the_forks_too(start, tmp_path):
    rule = "sentinel monitor main 127.0.0.1 {} 1"
    with serving(tmp_path) as port, sentinel(tmp_path, rule.format(port)) as beside:
        worker = start(
            "nothing", words=["--burst"], REDIS_URL=f"redis+sentinel://127.0.0.1:{beside}/main"
        )
        worker.wait()

    assert worker.lines("worker.stopped")
    assert not worker.lines("module.opened")


def test_each_job_gets_its_own_row_from_postgresql(start, redis, postgres):
    assert ask_all(start("postgres", POSTGRES=postgres), redis, "postgres") == ANSWERS


def test_the_log_names_each_module_and_what_it_opened(start, echo, tmp_path):
    worker = start("c_thread", "event_loop", "nothing", "sqlite", "tcp", "thread")
    worker.until_logged("worker.started")

    assert openers(worker) == {
        "tests.support.opened.c_thread": "thread of a C library",
        "tests.support.opened.event_loop": "event loop, socket",
        "tests.support.opened.sqlite": f"{tmp_path}/test.db",
        "tests.support.opened.tcp": f"socket to 127.0.0.1:{echo}",
        "tests.support.opened.thread": "thread 'answers",
    }


def test_modules_that_open_only_a_log_file_are_imported_once_for_all(start, redis):
    worker = start("nothing", "thread_that_forks_end")
    queue = Queue("default", connection=redis)
    queue.enqueue("tests.support.opened.nothing.importer_and_user", job_id="job")
    until_over(worker, redis, "job")
    importer, user = result(redis, "job")

    assert importer == worker.process.pid != user
    assert not openers(worker)


def test_a_child_that_is_still_importing_takes_no_job_and_lives(start, redis):
    Queue("default", connection=redis).enqueue("tests.support.opened.slow.ask", 1, job_id="job")
    worker = start("slow")
    worker.until(lambda: said(redis).count("import begun") == 4)
    before = leases(redis)
    worker.until(lambda: min(leases(redis)) > max(before))
    assert queued(redis) == ["job"]

    for _ in range(4):
        let_go_on(redis, "import")
    until_over(worker, redis, "job")
    assert not worker.lines("worker.died")


def test_a_worker_that_is_stopped_while_children_import_ends(start, redis):
    worker = start("slow", GRACE_S="2")
    until_said(worker, redis, "import begun")
    worker.send(signal.SIGTERM)

    assert worker.wait() == 0


def test_a_child_that_is_replaced_imports_again(start, redis):
    worker = start("tcp", MAX_JOBS_PER_CHILD="3")

    assert ask_all(worker, redis, "tcp") == ANSWERS


def test_an_import_that_ends_the_process_ends_the_worker_with_the_cause(start):
    worker = start("nothing", "ends_the_process")

    assert worker.wait() == 2
    assert worker.log == (
        "tests.support.opened.nothing or tests.support.opened.ends_the_process cannot be imported: "
        "ChildProcessError: the process that imported it ended with exit code 0\n"
    )


@pytest.mark.parametrize("opens", ["tcp", "thread"])
def test_what_worker_py_opens_is_not_shared_either(start_own, redis, opens):
    worker = start_own(opens, opens=opens)
    answers = ask_all(worker, redis, opens)
    worker.send_to_all(signal.SIGTERM)

    assert answers == ANSWERS
    assert list(openers(worker)) == ["worker.py"]
    assert worker.wait() == 0


def test_nor_is_what_the_schedule_opens(start_own, redis):
    worker = start_own("tcp", words=["--with-scheduler"], opens="nothing")
    worker.until_logged("worker.started")

    assert ask_all(worker, redis, "tcp") == ANSWERS
    assert list(openers(worker)) == ["tests.support.opened.tcp", "worker.py"]


def test_a_job_is_stopped_where_worker_py_opens_something(start_own, redis):
    worker = start_own("thread", opens="thread", JOBS_MODULES="tests.jobs.worker")
    stopped = Callback("tests.jobs.worker.note_stopped")
    queue = Queue("default", connection=redis)
    queue.enqueue("tests.jobs.worker.wait_for", "a", job_id="job", on_stopped=stopped)
    until_said(worker, redis, "a begun")
    send_stop_job_command(redis, "job")

    until_said(worker, redis, "stopped job")


def test_a_child_that_dies_is_replaced_where_worker_py_opens_something(start_own, redis):
    worker = start_own("thread", opens="thread", JOBS_MODULES="tests.jobs.worker")
    queue = Queue("default", connection=redis)
    queue.enqueue("tests.jobs.worker.kill_itself", job_id="job")
    until_over(worker, redis, "job")

    assert len(worker.lines("worker.died")) == 3
    assert "SIGKILL" in reason(redis, "job")


def test_none_outlives_its_supervisor_where_worker_py_opens_something(start_own, redis):
    worker = start_own("slow", opens="thread")
    until_said(worker, redis, "import begun")
    worker.end()
