"""A pytest plugin for the suites: a private Redis per process, and the list of tests that do not
apply to our classes, from docs/compatibility.md.
"""

import os
from pathlib import Path

import pytest
import rq
import rq_scheduler

from bench.compat import tables
from bench.server import free_port
from jiffy.dev import redis_server

# The heading of a suite's list; and the classes that ours took the place of.
_HEADINGS = {"rq": "RQ's test", "rq-scheduler": "rq-scheduler's test"}
_REPLACED = {
    "rq": [(rq, "Worker"), (rq, "SimpleWorker")],
    "rq-scheduler": [(rq_scheduler, "Scheduler")],
}
# RQ's tests look for an empty database from 4 to 16.
_DATABASES = "17"
# The file in the home of each Redis that says where it is.
ADDRESS = "address.txt"


def pytest_configure() -> None:
    """Start a Redis for this process, to which `sitecustomize` leads RQ's tests.

    Whoever started pytest stops it: a test may take this process down.
    """
    port = free_port()
    os.environ["COMPAT_REDIS_PORT"] = str(port)
    home = Path(os.environ["COMPAT_HOME"]) / os.environ.get("PYTEST_XDIST_WORKER", "main")
    (home / "tmp").mkdir(parents=True)
    os.environ["COMPAT_TMP"] = str(home / "tmp")
    options = ("--port", str(port), "--bind", "127.0.0.1", "--databases", _DATABASES)
    (home / ADDRESS).write_text(redis_server.start(home, keep=False, options=options))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for package, name in _REPLACED[os.environ["COMPAT_SUITE"]]:
        put_in = getattr(package, name)
        was = f"{put_in.__module__}.{put_in.__name__}"
        terminalreporter.write_line(f"{package.__name__}.{name} was {was}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the listed tests to fail: one that passes is reported, for its line is out of date."""
    if os.environ["COMPAT_WORKER"] != "jiffy":
        return
    heading = _HEADINGS[os.environ["COMPAT_SUITE"]]
    reasons = {row[heading]: row["why it does not apply"] for row in tables.rows(heading)}
    for item in items:
        reason = reasons.pop(item.nodeid.removeprefix("tests/"), None)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
