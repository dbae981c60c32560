"""Tracebacks as people read them: their own code first."""

import re
from typing import NamedTuple

_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]*)", line (?P<line>\d+), in (?P<name>[^\n]*)'
                    r"(?:\n(?!\s*File )(?P<code>\s+[^\n]*))?", re.MULTILINE)  # fmt: skip
_OTHERS = re.compile(r"site-packages/|dist-packages/|/lib/python\d|/jiffy/(worker|producer)/|^<")
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
              not _OTHERS.search(found["file"].replace("\\", "/")))
        for found in _FRAME.finditer(traceback)
    ]  # fmt: skip


def own_frames(traceback: str) -> list[Frame]:
    """Those of the user's code, the innermost first."""
    return [frame for frame in reversed(frames(traceback)) if frame.is_own]


def kind(cause: str) -> str:
    """The exception's name in the last line of a traceback, or else its first words."""
    found = _CAUSE.match(cause)
    if found and cause[found.end() : found.end() + 1] in (":", ""):
        return found[0]
    return " ".join(cause.split()[:4]) or "unknown"
