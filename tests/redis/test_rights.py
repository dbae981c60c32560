"""A Redis user with the rights that the documentation lists is enough, whatever runs."""

import os
import re
import subprocess
import sys

import pytest
from redis import Redis

from jiffy import Retry, actions, every, keys, redis_io, wait
from jiffy.control import read
from jiffy.dashboard import create_app
from jiffy.dev import redis_server
from jiffy.errors import JobFailed
from jiffy.producer.enqueue import enqueue
from jiffy.scheduler import entry
from jiffy.worker import upkeep
from jobs import numbers
from tests.jobs import worker as worker_jobs
from tests.support.newcomer import CHECKOUT
from tests.support.worker_processes import Dyno, begin
from tests.web.conftest import PASSWORD, TOKEN, log_in

pytestmark = pytest.mark.slow
PAGE = (CHECKOUT / "docs/settings.md").read_text()
RULES = re.search(r"^ACL SETUSER shop (on >secret .+)$", PAGE, re.MULTILINE)[1]
RULES = RULES.replace("rq:", keys.RQ).replace("~jiffy:", f"~{keys.OWN}").split()
# What may be refused: it is asked for, and done without.
OPTIONAL = set(re.findall(r"`([A-Z]+)", re.search(r"^(.+) may be refused", PAGE, re.MULTILINE)[1]))
VIEWS = ("/", "/schedule", "/healthz", "/rq/", "/rq/0/view/jobs", "/rq/0/view/workers")


@pytest.fixture(params=[[], ["-client"]], ids=["documented", "without-client"])
def user(request, redis, redis_address, environ):
    """The address of Redis for a user with these rights, as this process knows it too."""
    redis.execute_command("ACL", "SETUSER", "shop", "reset", *RULES, "~test:*", *request.param)
    redis.acl_log_reset()
    address = redis_address.replace("unix://", "unix://shop:secret@")
    environ(REDIS_URL=address, DASHBOARD_PASSWORD=PASSWORD, API_TOKEN=TOKEN)
    redis_io.shared.cache_clear()
    yield address
    redis_io.shared().close()
    redis_io.shared.cache_clear()
    refused = {entry["object"].partition("|")[0].upper() for entry in redis.acl_log()}
    redis.acl_deluser("shop")
    assert refused <= OPTIONAL


@pytest.fixture
def worker(user, tmp_path):
    modules = "jobs,tests.jobs.worker"
    dyno = Dyno(tmp_path, ["-n", "1"], {"REDIS_URL": user, "JOBS_MODULES": modules})
    yield dyno
    dyno.end()


@pytest.mark.parametrize(
    "missing", ["-expire", "-@keyspace", "-@blocking", f"resetkeys ~{keys.RQ}*"]
)
@pytest.mark.parametrize("program", ["worker.py", "scheduler.py"])
def test_where_a_right_is_missing_nothing_starts_and_no_job_is_lost(
    program, missing, redis, redis_address
):
    redis.execute_command("ACL", "SETUSER", "shop", "reset", *RULES, *missing.split())
    job = enqueue(numbers.add, 2, 3)
    address = redis_address.replace("unix://", "unix://shop:secret@")
    done = subprocess.run(
        [sys.executable, program], cwd=CHECKOUT, env=os.environ | {"REDIS_URL": address},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    redis.acl_deluser("shop")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "(its user may not " in done.stderr
    assert redis.lrange(keys.queue("default"), 0, -1) == [job.id.encode()]


def test_a_worker_that_loses_a_right_says_so_once_and_goes_on_when_it_has_it_again(worker, redis):
    wait(enqueue(numbers.add, 2, 3), timeout="60s")
    redis.execute_command("ACL", "SETUSER", "shop", "-blpop")
    for client in redis.client_list():
        if client["user"] == "shop" and "b" in client["flags"]:  # it sleeps, as it still may
            redis.client_unblock(client["id"])
    worker.until_logged("redis.refused")
    redis.execute_command("ACL", "SETUSER", "shop", "+blpop")
    redis.acl_log_reset()

    assert wait(enqueue(numbers.add, 3, 4), timeout="60s") == 7
    assert [line.partition("reason=")[2] for line in worker.lines("redis.refused")] == [
        "\"its user may not run the 'blpop' command\""
    ]
    assert (worker.lines("worker.died"), worker.log.count("Traceback")) == ([], 0)


def test_a_worker_runs_retries_and_stops_jobs(worker, redis):
    now, later = enqueue(numbers.add, 2, 3), enqueue.options(in_=0.1)(numbers.add, 3, 4)
    assert (wait(now, timeout="60s"), wait(later, timeout="60s")) == (5, 7)
    assert "warn" not in worker.log.lower()

    fails = enqueue.options(retry=Retry(1, pause=0.1))(worker_jobs.say_and_fail, "failing")
    with pytest.raises(JobFailed, match="failing"):
        wait(fails, timeout="60s")

    runs = enqueue(worker_jobs.wait_for, "ever")
    begin(worker, redis, "ever")
    actions.stop(runs)
    worker.until(lambda: runs.get_status() == "stopped")


def test_a_scheduler_enqueues_what_is_due(user, redis, start_scheduler):
    entries = entry.read([every(1, numbers.add, args=[1, 2], overlap="allow")])
    running = start_scheduler(entries, user)

    running.until(lambda: redis.llen(keys.queue("default")) >= 2)


def test_the_pages_and_the_api_show_and_change_jobs(worker):
    failed = enqueue(worker_jobs.say_and_fail, "failing")
    later = enqueue.options(in_="1h")(numbers.add, 1, 2)
    with pytest.raises(JobFailed):
        wait(failed, timeout="60s")
    app = create_app()
    client, token = app.test_client(), {"Authorization": f"Bearer {TOKEN}"}
    log_in(client)
    answers = [client.get(path) for path in (*VIEWS, f"/jobs/{failed.id}", f"/jobs/{later.id}")]
    answers.append(app.test_client().get("/metrics", headers=token))
    answers.append(app.test_client().post(f"/api/jobs/{failed.id}/retry", headers=token))
    answers.append(app.test_client().delete(f"/api/jobs/{later.id}", headers=token))

    assert [(it.request.path, it.text) for it in answers if it.status_code >= 300] == []


def test_a_name_of_a_key_that_is_none_of_ours_stops_no_page_and_no_worker(redis, redis_address):
    redis.execute_command("ACL", "SETUSER", "shop", "reset", *RULES)
    redis.sadd(keys.QUEUES, keys.queue("default"), "other:1")
    redis.sadd(keys.WORKERS, "other:1")
    redis.sadd(keys.workers_of("default"), "other:1")
    redis.zadd(keys.REGISTRIES["started"] + "default", {"abandoned:odd": 1})
    with Redis.from_url(redis_address.replace("unix://", "unix://shop:secret@")) as shop:
        upkeep.maintain(redis_io.Link(shop), [keys.queue("default")], 60)
        found = read.fleet(shop, 10), read.inside(shop, "default"), read.census(shop)
    redis.acl_deluser("shop")

    assert not redis.exists(keys.REGISTRIES["started"] + "default")
    assert (found[0].workers, found[1].workers, found[2].workers) == ([], [], 0)


def test_stock_rqs_worker_runs_a_job(user):
    job = enqueue(numbers.add, 2, 3)
    command = ["-m", "rq.cli", "worker", "--serializer", "json", "--burst", "--url", user]
    done = subprocess.run([sys.executable, *command, "default"], capture_output=True, check=False)

    assert job.get_status() == "finished", done.stderr.decode()


@pytest.mark.parametrize("program", ["worker.py", "scheduler.py"])
def test_where_redis_does_not_know_a_command_nothing_starts_and_no_job_is_lost(
    program, tmp_path, environ
):
    options = ("--rename-command", "PERSIST", "RENAMED")
    address = redis_server.start(tmp_path, keep=False, options=options)
    environ(REDIS_URL=address)
    redis_io.shared.cache_clear()
    job = enqueue(numbers.add, 2, 3)
    done = subprocess.run(
        [sys.executable, program], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    left = redis_io.shared().lrange(keys.queue("default"), 0, -1)
    redis_io.shared().close()
    redis_io.shared.cache_clear()
    redis_server.stop(address)

    assert (done.returncode, done.stderr.count("\n"), left) == (2, 1, [job.id.encode()])
    assert "it does not know the command PERSIST" in done.stderr
