"""What a test needs and a machine may lack: it is skipped there, and fails where CI runs it."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

from jiffy.dev import redis_server


def is_missing(what: str) -> NoReturn:
    """Skip this test for lack of something, or fail it where nothing may be skipped."""
    if os.environ.get("JIFFY_SKIP_NOTHING") == "1":
        pytest.fail(what)
    pytest.skip(what)


def installed_server() -> Path:
    """The redis-server or valkey-server of this machine."""
    return redis_server.installed() or is_missing("no redis-server (or valkey-server) is installed")
