"""Run RQ's and rq-scheduler's own tests with our classes, or with theirs for reference:
`make compat [SUITE=rq-scheduler] [WORKER=rq]`.

A suite is of exactly the version that requirements.txt pins: RQ's comes out of its source
distribution; that of rq-scheduler holds none, so they come out of its repository.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.compat.plugin import ADDRESS
from jiffy import devredis

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "compat"
PYTHON = BUILD / "venv" / "bin" / "python"
EVERYWHERE = Path(__file__).parent / "everywhere"
REPOSITORY = "https://github.com/rq/rq-scheduler/archive/refs/tags/v{version}.tar.gz"
# What RQ's suite needs beside RQ, and what runs it in parallel: it mostly sleeps.
TOOLS = ("pytest", "pytest-xdist", "pytest-timeout", "psutil==7.2.2")
PROCESSES = 6
# RQ's tests leave files under fixed names: each process gets a folder of its own for them.
OUT_OF_TMP = ("'/tmp/", "__import__('os').environ['COMPAT_TMP'] + '/")
# RQ's own limits use SIGALRM, so the last resort must be a thread.
TEST_TIMEOUT_S = 180


def main() -> int:
    asked, for_pytest = _parser().parse_known_args()
    _install()
    failed = [name for name in asked.suite or SUITES if _play(name, asked.worker, for_pytest) != 0]
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compat", description="Everything else is handed to pytest."
    )
    parser.add_argument("--worker", choices=("jiffy", "rq"), default="jiffy")
    parser.add_argument("--suite", action="append", choices=SUITES, help="both, if not given")
    return parser


def _play(name: str, worker: str, for_pytest: list[str]) -> int:
    version = _pinned_version(name)
    suite = _suite(name, version)
    print(f"The tests of {name} {version}, with the classes of {worker}", flush=True)
    with _servers_home() as home:
        environment = {"COMPAT_SUITE": name, "COMPAT_WORKER": worker, "COMPAT_HOME": str(home)}
        return _run(suite, environment, for_pytest)


def _pinned_version(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found, f"requirements.txt pins {name}"
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


def _suite(name: str, version: str) -> Path:
    """The folder with the suite's `tests`, downloaded and unpacked if need be."""
    suite = BUILD / f"{name}-{version}"
    if not suite.exists():
        with tarfile.open(SUITES[name](version)) as archive:
            # Without the package itself: what is tested is the one that is installed.
            wanted = [m for m in archive if m.name.split("/")[1:2] == ["tests"]]
            archive.extractall(BUILD, members=wanted, filter="data")
        for path in suite.glob("tests/*.py"):
            path.write_text(path.read_text().replace(*OUT_OF_TMP))
    return suite


def _source_distribution(version: str) -> Path:
    _pip("download", "--no-deps", "--no-binary", ":all:", "-d", str(BUILD), f"rq=={version}")
    return BUILD / f"rq-{version}.tar.gz"


def _repository(version: str) -> Path:
    path, url = BUILD / f"rq-scheduler-{version}.tar.gz", REPOSITORY.format(version=version)
    try:
        urllib.request.urlretrieve(url, path)
    except OSError as error:
        sys.exit(f"No tests of rq-scheduler: {url} does not answer ({error}).")
    return path


# Whose tests, and where they come from.
SUITES: Mapping[str, Callable[[str], Path]] = {
    "rq": _source_distribution,
    "rq-scheduler": _repository,
}


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
