"""Static and class methods are jobs like any function, wherever they are enqueued; private names,
classes and what a module only imports are none.
"""

import json

import pytest
import rq

from enqueue import enqueue
from jiffy import cli, every, keys, wait
from jiffy.dashboard import create_app
from jiffy.errors import NotAllowed
from jiffy.producer.enqueue import Queue
from tests.jobs import worker as worker_jobs
from tests.jobs.worker import Orders, Returns
from tests.support.worker_support import reason, said, status

TOKEN = "t" * 32
METHODS = [
    ("Orders.count", Orders.count, 7),
    ("Orders.name", Orders.name, "Orders 7"),
    ("Returns.name", Returns.name, "Returns 7"),
    ("Orders.Line.double", Orders.Line.double, 14),
]
NO_JOBS = {
    "_hidden": "is private",
    "_Session.send": "is private",
    "_Session": "is private",
    "Orders._hidden": "is private",
    "Orders": "is a class",
    "Orders.Line": "is a class",
    "Orders.close": "is a method of an object",
    "Returns.close": "is a method of an object",
    "threading.Thread": "is imported from elsewhere",
    "os.system": "is imported from elsewhere",
    "Path.cwd": "is imported from elsewhere",
}


def over_http(environ, path):
    environ(JOBS_MODULES="tests.jobs.worker", API_TOKEN=TOKEN, DASHBOARD_PASSWORD="secret")
    call = {"function": f"tests.jobs.worker.{path}", "args": [7]}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    app = create_app()
    return app.test_client().post("/api/jobs", json=call, headers=headers)


@pytest.mark.parametrize(("path", "method", "value"), METHODS)
def test_a_method_is_enqueued_and_run_like_a_function(work, path, method, value):
    jobs = [enqueue(method, 7), enqueue.by_path(f"tests.jobs.worker.{path}", number=7)]
    work()

    assert [wait(job) for job in jobs] == [value, value]


@pytest.mark.parametrize(("path", "method", "value"), METHODS)
def test_a_method_is_enqueued_from_a_shell_by_http_and_by_the_schedule(
    redis, work, environ, declare, run_next, capsys, path, method, value
):
    assert cli.run(cli.load("enqueue"), [f"tests.jobs.worker.{path}", "7", "--id", "shell"]) == 0
    by_http = over_http(environ, path).json["id"]
    declare(every("1h", method, args=[7]))
    run_next()
    [by_schedule] = set(Queue("default", connection=redis).job_ids) - {"shell", by_http}
    work()

    for job_id in ("shell", by_http, by_schedule):
        assert rq.job.Job.fetch(job_id, redis, "json").return_value() == value


@pytest.mark.parametrize(("path", "method", "value"), METHODS)
@pytest.mark.parametrize("options", [{}, {"on_success": rq.Callback(worker_jobs.note_success)}])
def test_what_rqs_producer_enqueues_is_run(redis, work, path, method, value, options):
    queue = rq.Queue("default", connection=redis, serializer="json")
    job = queue.enqueue(f"tests.jobs.worker.{path}", 7, job_id="default-0", **options)
    work()

    assert job.return_value() == value
    assert len(said(redis)) == len(options)


@pytest.mark.parametrize(("path", "method", "value"), METHODS)
def test_so_it_is_where_rq_pickles_the_class(redis, work, environ, path, method, value):
    environ(JOBS_MODULES="tests.jobs.worker", SERIALIZERS="json,pickle")
    job = rq.Queue("default", connection=redis).enqueue(method, 7)
    work()

    assert job.return_value() == value


@pytest.mark.parametrize("path", NO_JOBS)
def test_what_is_no_job_cannot_be_enqueued(redis, environ, capsys, path):
    whole = f"tests.jobs.worker.{path}"
    environ(JOBS_MODULES="tests.jobs.worker")
    with pytest.raises(NotAllowed, match=NO_JOBS[path]):
        enqueue.by_path(whole)
    with pytest.raises(SystemExit):
        cli.run(cli.load("enqueue"), [whole])
    answer = over_http(environ, path)

    assert NO_JOBS[path] in capsys.readouterr().err
    assert (answer.status_code, answer.json["pointer"]) == (422, "#/function")
    assert NO_JOBS[path] in json.dumps(answer.json)
    assert not redis.exists(keys.queue("default"))


@pytest.mark.parametrize("path", NO_JOBS)
@pytest.mark.parametrize("options", [{}, {"on_success": rq.Callback(worker_jobs.note_success)}])
def test_what_is_no_job_is_not_run(redis, work, environ, path, options):
    environ(JOBS_MODULES="tests.jobs.worker")
    queue = rq.Queue("default", connection=redis, serializer="json")
    queue.enqueue(f"tests.jobs.worker.{path}", job_id="default-0", retry=rq.Retry(2), **options)
    work()

    assert (status(redis), said(redis)) == ("failed", [])
    assert f"NotAllowed: 'tests.jobs.worker.{path}' {NO_JOBS[path]}" in reason(redis)


@pytest.mark.parametrize("path", NO_JOBS)
def test_nor_is_it_called_back(redis, work, environ, path):
    environ(JOBS_MODULES="tests.jobs.worker")
    queue = rq.Queue("default", connection=redis, serializer="json")
    callback = rq.Callback(f"tests.jobs.worker.{path}")
    queue.enqueue(worker_jobs.add, 2, 3, job_id="default-0", on_success=callback)
    work()

    assert (status(redis), said(redis)) == ("failed", [])
    assert NO_JOBS[path] in reason(redis)
