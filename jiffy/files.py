"""Files of jobs: none outside JOBS_FILES, and none that is half written.

A client of the API chooses a job's arguments, so it chooses paths.  None of them leads out of
JOBS_FILES: no absolute path, no `..`, no link, not even a link that replaces a folder meanwhile.
Each folder is opened by its name in the one above, and no link is followed; only JOBS_FILES itself
may be one.

Hard links and mounts below JOBS_FILES look like files, and a folder that is moved out while a job
has it open is still written to.  Both take a user who can write to the disk already.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from jiffy.settings import settings

StrPath = str | os.PathLike[str]

# A file's name while it is being written.  An old one was left by a killed process.
UNFINISHED = ".unfinished-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


def open_file(path: StrPath, mode: str = "r", **options: Any) -> IO[Any]:
    """Open a file below JOBS_FILES; mode and options are those of the builtin `open`.

    Raises ValueError for a path outside or through a link, and what `open` raises.
    """
    return open(os.fspath(path), mode, opener=_open_below, **options)


def open_folder(path: StrPath) -> int:
    """JOBS_FILES or a folder below it, as a `dir_fd`, which the caller closes with `os.close`."""
    return _open_below(os.fspath(path), _FOLDER)


@contextmanager
def whole_file(path: StrPath) -> Iterator[IO[bytes]]:
    """Give a file to write to; it becomes the one at `path` in one step at the end of the block.

    Until then, and for good if the block fails, whatever was at `path` stays as it was.
    Raises what `open_file` does.
    """
    part = UNFINISHED + secrets.token_hex(8)
    with _folder_of(os.fspath(path)) as (folder, name):
        try:
            # To be read, too: some of Pillow's writers look at what they have written.
            with open(part, "x+b", opener=partial(os.open, mode=0o666, dir_fd=folder)) as file:
                yield file
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)


def _open_below(path: str, flags: int) -> int:
    with _folder_of(path) as (folder, name):
        return _open_in(folder, name, flags, path)


@contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    """The open folder that `path` is in, reached from JOBS_FILES, and its name there."""
    root = settings().jobs_files
    *folders, name = Path(os.path.relpath(path or os.curdir, root)).parts or (os.curdir,)
    if os.pardir in (*folders, name):
        raise ValueError(f"{path!r} is not below JOBS_FILES, which is {root!r}.")
    try:
        opened = [os.open(root, _FOLDER)]
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"JOBS_FILES is {root!r}; there is no such folder.") from None
    try:
        for folder in folders:
            opened.append(_open_in(opened[-1], folder, _FOLDER, path))
        yield opened[-1], name
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open_in(folder: int, name: str, flags: int, path: str) -> int:
    """Open `name` in `folder` unless it is a link; `path` is what an error is about."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW, mode=0o666, dir_fd=folder)
    except OSError as error:
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                must = f"links below JOBS_FILES are not followed, and {name!r} is one"
                raise ValueError(f"{path!r} cannot be used: {must}.") from None
        error.filename = path
        raise
