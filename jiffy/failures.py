"""Tracebacks as people read them: their own code first."""

import hashlib
import re
from typing import NamedTuple

from jiffy.tracebacks import is_own

_FRAME = re.compile(r'^[ \t]*File "(?P<file>[^"\n]*)", line (?P<line>\d+), in (?P<name>[^\n]*)'
                    r"(?:\n(?![ \t]*File )(?P<code>[ \t]+[^\n]*))?", re.MULTILINE)  # fmt: skip
_CAUSE = re.compile(r"^[\w.]+")


class Frame(NamedTuple):
    """A place in a traceback; `is_own`: of the user's code, not of a library."""

    file: str
    line: int
    name: str
    code: str
    is_own: bool

    @property
    def short(self) -> str:
        """Its file's last two parts: jobs/shop.py."""
        return "/".join(self.file.replace("\\", "/").split("/")[-2:])


def frames(traceback: str) -> list[Frame]:
    """Its frames, the innermost last."""
    return [
        Frame(found["file"], int(found["line"][:9]), found["name"], (found["code"] or "").strip(),
              is_own(found["file"]))
        for found in _FRAME.finditer(traceback)
    ]  # fmt: skip


def own_frames(traceback: str) -> list[Frame]:
    """Those of the user's code, the innermost first."""
    return [frame for frame in reversed(frames(traceback)) if frame.is_own]


def headline(traceback: str) -> str:
    """The line that names the exception: the first one behind the last frame."""
    last = next(reversed([*_FRAME.finditer(traceback)]), None)
    behind = traceback[last.end() if last else 0 :].splitlines()
    lines = [line for line in behind if line.strip() and not line[0].isspace()]
    # Without frames it is the message of a worker, or of a traceback that was cut off.
    return (lines or [""])[0 if last else -1].strip()


def kind(traceback: str) -> str:
    """The exception's name, or else the first words of what is there."""
    line = headline(traceback)
    found = _CAUSE.match(line)
    if found and line[found.end() : found.end() + 1] in (":", ""):
        return found[0]
    return " ".join(line.split()[:6]) or "unknown"


class Group(NamedTuple):
    """What failures have in common: the exception, and the user's own code that it came from."""

    kind: str
    where: str

    @classmethod
    def of(cls, traceback: str) -> "Group":
        own = next(iter(own_frames(traceback)), None)
        return cls(kind(traceback), f"{own.short} in {own.name}" if own else "")

    @property
    def key(self) -> str:
        """As it stands in URLs and filters."""
        return hashlib.sha256("\0".join(self).encode("utf-8", "replace")).hexdigest()[:10]
