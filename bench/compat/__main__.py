"""Run RQ's own tests with our workers, or with RQ's for reference: `make compat [WORKER=rq]`.

The suite comes out of RQ's source distribution, of exactly the version that requirements.txt pins.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.compat.plugin import ADDRESS
from jiffy import devredis

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "compat"
PYTHON = BUILD / "venv" / "bin" / "python"
EVERYWHERE = Path(__file__).parent / "everywhere"
# What RQ's suite needs beside RQ, and what runs it in parallel: it mostly sleeps.
TOOLS = ("pytest", "pytest-xdist", "pytest-timeout", "psutil==7.2.2")
PROCESSES = 6
# RQ's tests leave files under fixed names: each process gets a folder of its own for them.
OUT_OF_TMP = ("'/tmp/", "__import__('os').environ['COMPAT_TMP'] + '/")
# RQ's own limits use SIGALRM, so the last resort must be a thread.
TEST_TIMEOUT_S = 180


def main() -> int:
    asked, for_pytest = _parser().parse_known_args()
    version = _pinned_version()
    _install()
    suite = _suite(version)
    print(f"RQ {version}'s tests, with the workers of {asked.worker}")
    with _servers_home() as home:
        return _run(suite, asked.worker, home, for_pytest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compat", description="Everything else is handed to pytest."
    )
    parser.add_argument("--worker", choices=("jiffy", "rq"), default="jiffy")
    return parser


def _pinned_version() -> str:
    found = re.search(r"^rq==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found, "requirements.txt pins rq"
    return found[1]


def _install() -> None:
    """Make the suite's own environment, once for each state of requirements.txt."""
    requirements = ROOT / "requirements.txt"
    done = BUILD / "installed.txt"
    if done.exists() and done.read_text() == requirements.read_text():
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    venv.create(PYTHON.parents[1], with_pip=True)
    _pip("install", "-r", str(requirements), "-c", str(ROOT / "requirements-dev.txt"), *TOOLS)
    done.write_text(requirements.read_text())


def _suite(version: str) -> Path:
    """The folder with RQ's `tests`, downloaded and unpacked if need be."""
    suite = BUILD / f"rq-{version}"
    if not suite.exists():
        _pip("download", "--no-deps", "--no-binary", ":all:", "-d", str(BUILD), f"rq=={version}")
        with tarfile.open(BUILD / f"rq-{version}.tar.gz") as archive:
            # Without `rq/`: what is tested is the one that is installed.
            wanted = [m for m in archive if m.name.split("/")[1] in ("tests", "tox.ini")]
            archive.extractall(BUILD, members=wanted, filter="data")
        for path in suite.glob("tests/*.py"):
            path.write_text(path.read_text().replace(*OUT_OF_TMP))
    return suite


def _pip(*words: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True)


@contextmanager
def _servers_home() -> Iterator[Path]:
    """A folder for the Redis servers of this run; at the end they are stopped."""
    with tempfile.TemporaryDirectory(prefix="jiffy-compat-") as home:
        try:
            yield Path(home)
        finally:
            for address in Path(home).glob(f"*/{ADDRESS}"):
                devredis.stop(address.read_text())


def _run(suite: Path, worker: str, home: Path, for_pytest: list[str]) -> int:
    command = [
        str(PYTHON), "-m", "pytest", "-q", "-p", "bench.compat.plugin", "-p", "no:cacheprovider",
        "-n", str(PROCESSES), "--dist", "loadscope", "-rfEX", "--tb", "short", "-W", "ignore",
        "--timeout", str(TEST_TIMEOUT_S), "--timeout-method", "thread", *(for_pytest or ["tests"]),
    ]  # fmt: skip
    environment = os.environ | {
        "COMPAT_HOME": str(home),
        "COMPAT_WORKER": worker,
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{EVERYWHERE}{os.pathsep}{ROOT}",
        "RUN_SLOW_TESTS_TOO": "1",
    }
    return subprocess.run(command, cwd=suite, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
