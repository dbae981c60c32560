"""Throw-away environments: one for each peer, so that no library meets another's requirements."""

import re
import subprocess
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
_REQUIREMENTS = Path(__file__).with_name("requirements")
_NEEDS = re.compile(r"# python>=(\d+)\.(\d+)")
_NEWEST_MINOR = 14


class CannotInstall(Exception):
    """A peer's environment cannot be made; the message says why, in one line."""


def python_for(peer: str) -> Path:
    """The Python of this peer's environment, made now unless it is there already.

    A contestant without a requirements file runs where the project does.
    Raises CannotInstall.
    """
    wanted = _REQUIREMENTS / f"{peer}.txt"
    if not wanted.exists():
        return Path(sys.executable)
    home = BUILD / peer
    stamp = home / f".made-{zlib.crc32(wanted.read_bytes()):x}"
    if not stamp.exists():
        print(f"installing {peer} ...", file=sys.stderr, flush=True)
        _run([str(_base(wanted.read_text())), "-m", "venv", "--clear", str(home)])
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", "-r", str(wanted)])
        stamp.touch()
    return home / "bin" / "python"


def _base(requirements: str) -> Path:
    """This Python, or a newer one on this machine where the peer needs it."""
    needs = _NEEDS.search(requirements)
    if needs is None:
        return Path(sys.executable)
    oldest = (int(needs[1]), int(needs[2]))
    if sys.version_info[:2] >= oldest:
        return Path(sys.executable)
    for minor in range(oldest[1], _NEWEST_MINOR + 1):
        found = _installed(f"3.{minor}")
        if found:
            return found
    raise CannotInstall(f"needs Python {needs[1]}.{needs[2]}, which is not on this machine")


def _installed(version: str) -> Path | None:
    """A Python of that version, from the PATH or from pyenv."""
    of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for path in [Path(f"/usr/bin/python{version}"), Path(f"/usr/local/bin/python{version}")]:
        if path.exists():
            return path
    return of_pyenv[-1] if of_pyenv else None


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotInstall(lines[-1] if lines else f"{command[0]} failed: {done.stderr[-200:]}")
