"""Functions that import nothing of ours, so that workers of another RQ can run them."""

import os
import time
from pathlib import Path


def note(folder: str) -> None:
    """Leave a file for this run."""
    Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()


def login(user: str, api_key: str = "hunter2") -> None:
    """Read a secret as a default, as from an environment variable."""


def meet(folder: str) -> None:
    """Wait until another process runs this, too."""
    Path(folder, f"meets-{os.getpid()}").touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).glob("meets-*"))) < 2:
        assert time.monotonic() < deadline, "no other came"
        time.sleep(0.01)


def fail_twice(folder: str) -> str:
    """Fail, but for the third time."""
    note(folder)
    if len(list(Path(folder).iterdir())) < 3:
        raise ValueError("not yet")
    return "at last"
