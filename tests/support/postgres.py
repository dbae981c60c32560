"""A private PostgreSQL for tests: `with start_postgres() as address: psycopg.connect(address)`."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.missing import is_missing
from tests.support.newcomer import PATIENCE_S, wait_until


@contextmanager
def start_postgres():
    """A server on a Unix socket, gone at the end with all its data; give its address."""
    programs = _programs()
    # It refuses to run as root.
    account = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="jiffy-test-") as home:
        if account:
            shutil.chown(home, **account)
        data = f"{home}/data"
        initdb = [programs / "initdb", "-D", data, "-U", "jiffy", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, cwd=home, stdout=subprocess.DEVNULL, **account)
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", home, "-h", "", "-F"],
            cwd=home, stderr=subprocess.DEVNULL, **account,
        )  # fmt: skip
        try:
            address = f"postgresql://jiffy@/postgres?host={home}"
            wait_until(lambda: _answers(address))
            yield address
        finally:
            server.send_signal(signal.SIGINT)  # which ends its clients, too
            server.wait(PATIENCE_S)


def _programs():
    """The folder of PostgreSQL's programs, which Debian does not put on the PATH."""
    folders = [*map(Path, os.get_exec_path()), *Path("/usr/lib/postgresql").glob("*/bin")]
    found = next((folder for folder in folders if (folder / "initdb").exists()), None)
    return found or is_missing("no PostgreSQL is installed (Debian's package is postgresql)")


def _answers(address):
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True
