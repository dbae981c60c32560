"""Names of RQ, rq-scheduler and rq-dashboard that are not public: there, and used in one place."""

import ast
import functools
from importlib.util import find_spec
from pathlib import Path

import pytest
import rq.job
import rq_dashboard.web
from redis import Redis

from jiffy import Worker, rq_compat

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("rq", "rq_scheduler", "rq_dashboard")
OURS = sorted((CHECKOUT / "jiffy").rglob("*.py"))
JOB = rq.job.Job("id", connection=Redis())
QUEUE = rq.Queue(connection=Redis())
WORKER = rq.SimpleWorker(["default"], connection=Redis(), prepare_for_work=False)
# What jiffy/rq_compat.py uses, and of what it is a part.
NAMES = {
    "_current_job": rq.job,
    "_result": JOB,
    "_status": JOB,
    "_execute": JOB,
    "_exc_handlers": WORKER,
    "_ordered_queues": WORKER,
    "_dequeue_strategy": WORKER,
    "_start_scheduler": WORKER,
    "_stop_requested": WORKER,
    "_shutdown_requested_date": WORKER,
    "_finalize_success": WORKER,
    "_finalize_failure": WORKER,
    "_enqueue_async_job": QUEUE,
    "_enqueue_rate_limited_job": QUEUE,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_there(name):
    owner = NAMES[name]

    assert hasattr(owner, name), f"{owner!r} has no {name}: see jiffy/rq_compat.py"


def test_a_name_that_rq_dashboard_no_longer_has_is_not_replaced_in_silence():
    with pytest.raises(AttributeError, match="no_such_name"):
        rq_compat.replace_in_dashboard(rq_dashboard.web.config.serializer, no_such_name=1)


class Proxy:
    """Takes over everything from what it wraps, as wrapt's do."""

    def __init__(self, wrapped):
        self._wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def __call__(self, *args):
        return self._wrapped(*args)


class Overriding(rq.Worker):
    def perform_job(self, *args):
        return super().perform_job(*args)


@functools.wraps(rq.Worker.perform_job)
def wrapping(self, *args):
    """Takes over RQ's name and module."""


@pytest.mark.parametrize("method", [wrapping, Proxy(rq.Worker.perform_job), print])
def test_what_is_put_in_the_place_of_a_method_is_seen(monkeypatch, method):
    monkeypatch.setattr(rq.worker.BaseWorker, "perform_job", method)

    assert rq_compat.is_replaced(rq.Worker, "perform_job")
    assert rq_compat.is_replaced(WORKER, "perform_job")


def test_so_is_what_a_subclass_overrides_and_what_one_object_is_given(monkeypatch):
    assert not rq_compat.is_replaced(WORKER, "perform_job")
    assert not rq_compat.is_replaced(rq.Worker, "perform_job")
    assert not rq_compat.is_replaced(Worker, "perform_job")
    assert rq_compat.is_replaced(Overriding, "perform_job")
    monkeypatch.setattr(WORKER, "perform_job", print)
    assert rq_compat.is_replaced(WORKER, "perform_job")


def test_each_private_name_has_its_line_here():
    path = CHECKOUT / "jiffy/rq_compat.py"

    assert {name for name, _ in private_names_of_rq(path)} == set(NAMES)


@pytest.mark.parametrize(
    "path",
    [path for path in OURS if path.name != "rq_compat.py"],
    ids=lambda path: str(path.relative_to(CHECKOUT)),
)
def test_private_names_of_rq_are_used_in_one_module_only(path):
    assert private_names_of_rq(path) == []


@pytest.mark.parametrize(
    "line",
    [
        "job._status",
        "job._status = 1",
        "getattr(job, '_status')",
        "from rq.job import _current_job",
        "from rq.job import Job, _current_job as current",
        "from rq_dashboard import web",
        "class Mine(rq.Queue):\n    def _enqueue_job(self): pass",
        "class Mine(rq.Queue):\n    def mine(self): self._is_async = True",
    ],
)
def test_a_private_name_is_found(line, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(f"import rq\n{line}\n")

    assert len(private_names_of_rq(path)) == 1


def private_names_of_rq(path):
    """The private names of the three packages that a file of ours uses: (name, line number)."""
    tree = ast.parse(path.read_text())
    theirs, own = private_names(), own_objects(tree)
    found = [
        (name, node.lineno)
        for node in ast.walk(tree)
        for name in names_in(node)
        if name in theirs and node not in own
    ]
    web = [("web", node.lineno) for node in ast.walk(tree) if imports_web(node)]
    return found + (web if path.name != "rq_compat.py" else [])


def names_in(node):
    match node:
        case ast.Attribute(value=ast.Name(id="os")):  # os._exit
            return []
        case ast.Attribute(attr=name) | ast.Constant(value=str(name)) | ast.keyword(arg=str(name)):
            return [name]
        case ast.FunctionDef(name=name) | ast.alias(name=name):
            return [name]
    return []


def imports_web(node):
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "rq_dashboard"
        and "web" in {alias.name for alias in node.names}
    )


def own_objects(tree):
    """What cannot be of the packages: functions, and `self.…`, outside of classes with a base."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    derived = [node for node in classes if {type(base) for base in node.bases} - {ast.Subscript}]
    inside = {inner for node in derived for inner in ast.walk(node)}
    return {
        node
        for node in ast.walk(tree)
        if node not in inside
        and (
            isinstance(node, ast.FunctionDef)
            or (isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self")
        )
    }


def private_names():
    """What begins with an underscore and is defined or set in one of the packages."""
    if not _private_names:
        for package in PACKAGES:
            for path in Path(find_spec(package).origin).parent.rglob("*.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    _private_names.update(filter(is_private, names_in(node)))
                    if isinstance(node, ast.Name):
                        _private_names.update(filter(is_private, [node.id]))
    return _private_names


def is_private(name):
    return name.isidentifier() and name[0] == "_" and name != "_" and not name.startswith("__")


_private_names = set()
