"""Run RQ's and rq-scheduler's own tests with our classes, or with theirs for reference:
`make compat [SUITE=rq-scheduler] [WORKER=rq] [RQ_SCHEDULER=PATH]`.

A suite is of exactly the version that requirements.txt pins: RQ's comes out of its source
distribution; that of rq-scheduler has no tests, so they come out of its repository, of which PATH
is a clone.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.compat.plugin import ADDRESS
from jiffy.dev import redis_server

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "compat"
PYTHON = BUILD / "venv" / "bin" / "python"
EVERYWHERE = Path(__file__).parent / "everywhere"
SUITES = ("rq", "rq-scheduler")
REPOSITORY = "https://github.com/rq/rq-scheduler"
# What RQ's suite needs beside RQ, and what runs it in parallel: it mostly sleeps.
TOOLS = ("pytest", "pytest-xdist", "pytest-timeout", "psutil")
PROCESSES = 6
# RQ's tests leave files under fixed names: each process gets a folder of its own for them.
OUT_OF_TMP = ("'/tmp/", "__import__('os').environ['COMPAT_TMP'] + '/")
# RQ's tests pickle, and their jobs are functions of the tests and of the standard library.
SETTINGS = {"SERIALIZERS": "json,pickle", "JOBS_MODULES": "tests"}
# RQ's own limits use SIGALRM, so the last resort must be a thread.
TEST_TIMEOUT_S = 180


def main() -> int:
    asked, for_pytest = _parser().parse_known_args()
    _install()
    failed = 0
    for name in asked.suite or SUITES:
        version = _pinned_version(name)
        archive = _source_distribution(version) if name == "rq" else _tests_of(asked.clone, version)
        print(f"The tests of {name} {version}, with the classes of {asked.worker}", flush=True)
        with _servers_home() as home:
            environment = SETTINGS | {
                "COMPAT_SUITE": name, "COMPAT_WORKER": asked.worker, "COMPAT_HOME": str(home),
            }  # fmt: skip
            failed |= _run(_unpacked(archive), environment, for_pytest) != 0
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compat", description="Everything else is handed to pytest."
    )
    parser.add_argument("--worker", choices=("jiffy", "rq"), default="jiffy")
    parser.add_argument("--suite", action="append", choices=SUITES, help="both, if not given")
    parser.add_argument(
        "--rq-scheduler", type=Path, dest="clone", metavar="PATH",
        help=f"a clone of {REPOSITORY}; without one, it is cloned",
    )  # fmt: skip
    return parser


def _pinned_version(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found, f"requirements.txt pins {name}"
    return found[1]


def _install() -> None:
    """Make the suite's own environment, once for each state of the requirements."""
    files = [ROOT / "requirements.txt", ROOT / "requirements-run.txt"]
    wanted = "".join(path.read_text() for path in files)
    done = BUILD / "installed.txt"
    if done.exists() and done.read_text() == wanted:
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    venv.create(PYTHON.parents[1], with_pip=True)
    _pip("install", *(word for path in files for word in ("-r", str(path))), *TOOLS)
    done.write_text(wanted)


def _unpacked(archive: Path) -> Path:
    """The folder with the suite's `tests`."""
    suite = archive.with_name(archive.name.removesuffix(".tar.gz"))
    shutil.rmtree(suite, ignore_errors=True)
    with tarfile.open(archive) as packed:
        # Without the package itself: what is tested is the one that is installed.
        wanted = [m for m in packed if m.name.split("/")[1:2] == ["tests"]]
        packed.extractall(BUILD, members=wanted, filter="data")
    for path in suite.glob("tests/*.py"):
        path.write_text(path.read_text().replace(*OUT_OF_TMP))
    return suite


def _source_distribution(version: str) -> Path:
    archive = BUILD / f"rq-{version}.tar.gz"
    if not archive.exists():
        _pip("download", "--no-deps", "--no-binary", ":all:", "-d", str(BUILD), f"rq=={version}")
    return archive


def _tests_of(clone: Path | None, version: str) -> Path:
    """The tests of rq-scheduler, out of its repository, packed like a source distribution."""
    if clone is None:
        clone = BUILD / "rq-scheduler"
        if not clone.exists() and _git("clone", "--quiet", "--bare", REPOSITORY, str(clone)) != 0:
            sys.exit(f"{REPOSITORY} cannot be cloned. Pass a clone: make compat RQ_SCHEDULER=PATH.")
    name = f"rq-scheduler-{version}"
    archive = BUILD / f"{name}.tar.gz"
    # The tag of 0.14.0 is v0.14, that of 0.13.1 is v0.13.1.
    for tag in (f"v{version}", f"v{version.removesuffix('.0')}"):
        there = ("-C", str(clone), "archive", f"--prefix={name}/", f"--output={archive}")
        if _git(*there, tag, "tests") == 0:
            return archive
    sys.exit(f"{clone} is no clone of {REPOSITORY} that has the tests of {version}.")


def _git(*words: str) -> int:
    return subprocess.run(["git", *words], stderr=subprocess.DEVNULL, check=False).returncode


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
                redis_server.stop(address.read_text())


def _run(suite: Path, environment: Mapping[str, str], for_pytest: list[str]) -> int:
    command = [
        str(PYTHON), "-m", "pytest", "-q", "-p", "bench.compat.plugin", "-p", "no:cacheprovider",
        "-n", str(PROCESSES), "--dist", "loadscope", "-rfEX", "--tb", "short", "-W", "ignore",
        "--timeout", str(TEST_TIMEOUT_S), "--timeout-method", "thread", "--rootdir", str(suite),
        "-c", os.devnull, *(for_pytest or ["tests"]),
    ]  # fmt: skip
    everything = (
        os.environ
        | environment
        | {
            "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{EVERYWHERE}{os.pathsep}{ROOT}",
            "RUN_SLOW_TESTS_TOO": "1",
        }
    )
    return subprocess.run(command, cwd=suite, env=everything, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
