"""`python worker.py --with-scheduler`: one dyno less, and as safe on all of them as on one."""

import json
import os
import shutil
import signal

import pytest

from jiffy import keys
from tests.support.newcomer import CHECKOUT, wait_until
from tests.support.worker_processes import Dyno, worker_names

pytestmark = pytest.mark.slow

EVERY_SECOND = "every(1, numbers.add, args=[2, 3], result_ttl=600, overlap='allow')"


@pytest.fixture
def start(redis, tmp_path):
    """Start a worker with a table of its own: `start("every(…)", "-n", "1")`."""
    started = []
    home = tmp_path / "home"
    home.mkdir()
    for name in ("worker.py", "enqueue.py"):
        shutil.copy(CHECKOUT / name, home)

    def run(lines, *words):
        (home / "scheduler.py").write_text(
            "from jiffy import cron, every, run_scheduler\n"
            "from jobs import numbers\n"
            f"SCHEDULE = [{lines}]\n"
        )
        # Two tables of one length, written within a second, are one to Python's cache.
        environ = {
            "JOBS_MODULES": "jobs",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        dyno = Dyno(tmp_path, ["--with-scheduler", "-n", "1", *words], environ, home)
        started.append(dyno)
        return dyno

    yield run
    for dyno in started:
        dyno.end()
    wait_until(lambda: not redis.info("clients")["blocked_clients"])


def scheduler_of(redis):
    """The process of the scheduler that looked last."""
    leader = redis.get(keys.LEADER)
    return leader and int(json.loads(leader)["who"].rpartition(":")[2])


def until_one_leads(dyno, redis, other_than=None):
    """Wait until a scheduler has looked, which is forgotten after a few seconds; return it."""
    found = [None]
    dyno.until(lambda: found.append(scheduler_of(redis)) or found[-1] not in (None, other_than))
    return found[-1]


def connections(redis, dyno):
    """The names of those that the dyno holds: each ends with a process' id or is a worker's."""
    ends = (*(f".{pid}" for pid in dyno.pids()), *worker_names(redis))
    return [client["name"] for client in redis.client_list() if client["name"].endswith(ends)]


def finished(redis):
    return [raw.decode() for raw in redis.zrange(keys.REGISTRIES["finished"] + "default", 0, -1)]


def test_one_process_less_enqueues_the_runs_and_runs_them(start, redis):
    dyno = start(EVERY_SECOND)
    dyno.until(lambda: len(finished(redis)) >= 3)

    assert until_one_leads(dyno, redis) in dyno.children()
    dyno.until(lambda: len(connections(redis, dyno)) == 4)
    names = connections(redis, dyno)
    assert len([name for name in names if name.startswith("jiffy:scheduler:")]) == 1


def test_a_scheduler_that_dies_is_started_again(start, redis):
    dyno = start(EVERY_SECOND)
    first = until_one_leads(dyno, redis)
    os.kill(first, signal.SIGKILL)
    until_one_leads(dyno, redis, first)
    done = len(finished(redis))
    dyno.until(lambda: len(finished(redis)) > done)

    assert "cause='signal 9 (SIGKILL)'" in dyno.until_logged("companion.died")


def test_one_that_dies_amid_a_deploy_does_not_bring_its_old_schedule_back(start, redis):
    old = start("every(3600, numbers.add, args=[1, 2], name='old')")
    of_old = until_one_leads(old, redis)
    new = start("every(3600, numbers.add, args=[1, 2], name='new')")
    until_one_leads(new, redis, of_old)
    os.kill(of_old, signal.SIGKILL)
    old.until(lambda: len(old.lines("scheduler.started")) == 2)
    first = until_one_leads(new, redis)
    os.kill(first, signal.SIGKILL)

    assert first not in old.children()
    assert until_one_leads(new, redis, first) in new.children()
    assert redis.zrange(keys.ENTRIES, 0, -1) == [b"entry-new"]


@pytest.mark.parametrize("to_whom", ["send", "send_to_all"])
def test_a_deploy_ends_it_at_once(start, redis, to_whom):
    dyno = start(EVERY_SECOND)
    until_one_leads(dyno, redis)
    getattr(dyno, to_whom)(signal.SIGTERM)

    assert dyno.wait() == 0
    assert not dyno.pids()
    assert not dyno.lines("companion.died")


def test_it_never_outlives_its_supervisor(start, redis):
    dyno = start(EVERY_SECOND)
    until_one_leads(dyno, redis)
    dyno.send(signal.SIGKILL)
    dyno.process.wait()

    wait_until(lambda: not dyno.pids())


def test_it_ends_with_a_worker_that_has_nothing_left_to_do(start, redis):
    dyno = start(EVERY_SECOND, "--burst")

    assert dyno.wait() == 0
    assert not dyno.pids()


def test_where_all_workers_have_one_no_run_is_doubled_and_another_takes_over(start, redis):
    first, second = start(EVERY_SECOND), start(EVERY_SECOND)
    for dyno in (first, second):
        dyno.until_logged("scheduler.started")
    first.until(lambda: len(finished(redis)) >= 2)
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    before = len(finished(redis))
    second.until(lambda: len(finished(redis)) > before)
    ticks = [line.split("slot=")[1].split()[0]
             for dyno in (first, second) for line in dyno.lines("tick.enqueued")]  # fmt: skip

    assert len(ticks) == len(set(ticks))


def test_a_wrong_table_stops_it_before_any_worker_starts(start, redis):
    dyno = start("every(1, numbers.add), cron('61 * * * *', numbers.add, args=[1, 2])")

    assert dyno.wait() == 2
    assert [line.split(":")[0] for line in dyno.log.splitlines()] == [
        "scheduler.py, entry 1",
        "scheduler.py, entry 2",
    ]
    assert worker_names(redis) == []
