"""Tracebacks as text, which is how Redis keeps them: bounded, shortened, the reason within, the
frames of the user's own code, and which of them are of the same failure.
"""

import hashlib
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

_MOST_CHARS = 50_000  # of an error that is stored
_MOST_BYTES = 1_000_000  # of one that is read: others may have stored it
_MARK_CHARS = 50
_LONGEST_REASON = 500  # characters
_MOST_MEMBERS = 3  # of an exception group
_MOST_NESTED = 5  # groups within one another that are looked into
_LAST_LINES = 8  # of a traceback
# How the notes begin that an exception gets where a hook swallowed or replaced it, and where its
# code is older than the file: the reason has them, too.
HOOK_NOTE, FILE_NOTE = "the hook ", "The file of "

_FRAME = re.compile(r'[ |]*File "')  # those of an exception group have a bar in front
_PLACE = re.compile(r'^[ |]*File "([^"\n]+)", line (\d+)(?:, in (\S+))?', re.MULTILINE)
_FRAME_AND_CODE = re.compile(
    r'^[ \t]*File "(?P<file>[^"\n]*)", line (?P<line>\d+), in (?P<name>[^\n]*)'
    r"(?:\n(?![ \t]*File )(?P<code>[ \t]+[^\n]*))?",
    re.MULTILINE,
)
_NAME = re.compile(r"[\w.]+(?![^:])")  # of an exception; behind it a colon, or nothing
_LINK = re.compile(
    r"^(?:  \| ?)?\n(?:  \| )?(?:The above exception was the direct cause of the following"
    r"|During handling of the above exception, another) exception(?: occurred)?:\n(?:  \| ?)?\n",
    re.MULTILINE,
)
_MEMBER = re.compile(r"^(?:  \+-\+|    \+)-+ (?:\d+|\.\.\.) -+\n", re.MULTILINE)
_MARGIN = re.compile(r"^  [|+] ?", re.MULTILINE)
# Python's and libraries' files, and the engine's: here, and wherever a traceback was written.
_OTHERS = re.compile(
    r"^<|/lib/python\d|(?:site|dist)-packages/|/jiffy/(?:worker|producer)/"
    rf"|^{re.escape(str(Path(__file__).parent))}/"
)


def bounded(error: str, most: int = _MOST_CHARS) -> str:
    """The error in UTF-8; if it is too long, its head and its tail, with a mark between them."""
    error = error.encode("utf-8", "backslashreplace").decode()
    if len(error) <= most:
        return error
    head, tail = error[: most * 2 // 3], error[_MARK_CHARS - most // 3 :]
    # Indented as frames are, with no line break behind it: half a line is no exception's.
    mark = f"\n  … {len(error) - len(head) - len(tail):,} characters cut … "
    return head + mark + tail


def unpacked(raw: bytes) -> str:
    """An error as RQ packs it into a result; of one that is too large its head, "" for none."""
    try:
        error = zlib.decompressobj().decompress(b64decode(raw), _MOST_BYTES)
    except (ValueError, zlib.error):
        return ""
    return error.decode("utf-8", "replace")


def is_own(file: str) -> bool:
    """Whether a file of a traceback is the user's: no library's, and not the engine's."""
    return not _OTHERS.search(file.replace("\\", "/"))


def reason_of(error: str) -> str:
    """What went wrong, in one line: the exception's type and first line, up to three members of a
    group, the innermost cause, and the place in code that is neither ours nor a library's.

    Of what is no traceback it is the first line.
    """
    place = next((f" ({_cut(place)})" for place in _places(error)), "")
    return _cut(_exception(error)) + place


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 1]}…"


def _exception(error: str, depth: int = 0) -> str:
    # A process pool's copy of the traceback in the other process: what follows says it, too.
    parts = [part for part in _LINK.split(error) if "RemoteTraceback: " not in part[:80]]
    cause, *_, reason = [_headline(part, depth) for part in parts] * 2 or ["", ""]
    is_news = (cause.partition(": ")[2] or cause) not in reason
    return f"{reason}, caused by {cause}" if is_news else reason


def _headline(part: str, depth: int) -> str:
    own, members = _members_of(part)
    lines = [line for line in own.splitlines() if line.strip() and not line.startswith(" ")]
    while lines and lines[0].startswith(("Traceback", "Exception Group Traceback")):
        del lines[0]
    is_blank = lines and re.fullmatch(r"[\w.]+: *", lines[0])
    headline = " ".join(lines[: 2 if is_blank else 1]).strip()
    headline += "".join(
        f" ({line})" for line in lines[1:] if line.startswith((HOOK_NOTE, FILE_NOTE))
    )
    if members and depth < _MOST_NESTED:
        more = ["…"] if len(members) > _MOST_MEMBERS else []
        shown = (_exception(member, depth + 1) for member in members[:_MOST_MEMBERS])
        headline += f": {'; '.join([*shown, *more])}"
    return headline


def _places(error: str, depth: int = 0) -> Iterator[str]:
    """Where it went wrong, in whose code: of a chain the cause first, of a group its members."""
    for part in _LINK.split(error):
        own, members = _members_of(part)
        for member in members if depth < _MOST_NESTED else ():
            yield from _places(member, depth + 1)
        found = [place for place in _PLACE.findall(own) if is_own(place[0])]
        for file, line, function in found[-1:]:
            of = f" in {function}" if function else ""
            yield f"{'/'.join(PurePath(file).parts[-2:])}:{line}{of}"


def _members_of(part: str) -> tuple[str, list[str]]:
    """What is an exception group's own, and its members, without their margins."""
    own, *members = _MEMBER.split(part)
    return _MARGIN.sub("", own), [re.sub("^  ", "", one, flags=re.MULTILINE) for one in members]


def shortened(error: str) -> list[str]:
    """The last lines of a traceback, from the beginning of a frame; then its reason, if that says
    more than where and the last line.
    """
    lines = error.strip("\n").splitlines()
    starts = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    start = next((number for number in starts if number >= len(lines) - _LAST_LINES), None)
    if start is None:  # the message alone is longer, or there is no frame
        start = starts[-1] if starts else len(lines) - _LAST_LINES
    end = lines[max(0, start) :]
    half = _LAST_LINES // 2
    if len(end) > _LAST_LINES:
        end = [*end[:half], "  …", *end[-half:]]
    reason = reason_of(error)
    return [*end, reason] if starts and not f"{reason} (".startswith(f"{end[-1]} (") else end


class Frame(NamedTuple):
    """A place in a traceback."""

    file: str
    line: int
    name: str
    code: str

    @property
    def short(self) -> str:
        """Its file's last two parts: jobs/shop.py."""
        return "/".join(self.file.replace("\\", "/").split("/")[-2:])


def own_frames(traceback: str) -> list[Frame]:
    """Those of the user's own code, the innermost first."""
    return [
        Frame(found["file"], int(found["line"][:9]), found["name"], (found["code"] or "").strip())
        for found in _FRAME_AND_CODE.finditer(traceback)
        if is_own(found["file"])
    ][::-1]


def headline(traceback: str) -> str:
    """The line that names the exception: the first one behind the last frame."""
    last = next(reversed([*_FRAME_AND_CODE.finditer(traceback)]), None)
    behind = traceback[last.end() if last else 0 :].splitlines()
    lines = [line for line in behind if line.strip() and not line[0].isspace()]
    # Without frames it is the message of a worker, or of a traceback that was cut off.
    return _cut((lines or [""])[0 if last else -1].strip())


class Group(NamedTuple):
    """What failures have in common: the exception, and the user's own code that it came from."""

    kind: str
    where: str

    @classmethod
    def of(cls, traceback: str) -> "Group":
        own, line = next(iter(own_frames(traceback)), None), headline(traceback)
        name = _NAME.match(line)
        kind = name[0] if name else line.partition(":")[0][:100] or "unknown"
        # Of thousands of failed jobs, each may have a group of its own.
        return cls(kind, _cut(f"{own.short} in {own.name}") if own else "")

    @property
    def key(self) -> str:
        """As it stands in URLs and filters."""
        return hashlib.sha256("\0".join(self).encode("utf-8", "replace")).hexdigest()[:10]
