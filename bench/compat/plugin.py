"""A pytest plugin for RQ's suite: a private Redis per process, and the list of tests that do not
apply to our workers, from docs/compatibility.md.
"""

import os
from pathlib import Path

import pytest
import rq

from bench.compat import tables
from bench.server import free_port
from jiffy import devredis

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
    (home / ADDRESS).write_text(devredis.start(home, keep=False, options=options))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in ("Worker", "SimpleWorker"):
        put_in = getattr(rq, name)
        terminalreporter.write_line(f"rq.{name} was {put_in.__module__}.{put_in.__name__}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the listed tests to fail: one that passes is reported, for its line is out of date."""
    if os.environ["COMPAT_WORKER"] != "jiffy":
        return
    reasons = {row["RQ's test"]: row["why it does not apply"] for row in tables.rows("RQ's test")}
    for item in items:
        reason = reasons.pop(item.nodeid.removeprefix("tests/"), None)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
