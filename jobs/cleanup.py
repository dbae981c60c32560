"""Clearing away what the other jobs have left and nobody needs any longer."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from jiffy import progress
from jiffy.files import UNFINISHED, open_folder
from jobs.images import RESIZED_NAME

_DAY_S = 24 * 60 * 60


def resized(folder: str, days: float = 30) -> int:
    """Delete resized pictures older than `days` in `folder` and all below it; return how many.

    `folder` is JOBS_FILES or a folder below it.

    A file goes only if its name is one that `jobs.images.resize` gives (`photo_200x150.jpg`) and
    the picture it was made from (`photo` with any suffix) stands beside it, so it can be made
    again.  So an original is safe, unless you call one just like a resized copy of its neighbour.
    What a killed job left half-written goes too; links are neither followed nor deleted.

    Raises FileNotFoundError or NotADirectoryError if there is no such folder, ValueError for one
    outside JOBS_FILES and for a negative `days`.
    """
    if not days >= 0:
        raise ValueError(f"days is {days!r}; it must be 0 or more.")
    before = time.time() - days * _DAY_S
    top, deleted = open_folder(folder), 0
    try:
        for inside, name in progress(_candidates(top), note="looking for old pictures"):
            deleted += _delete_if_older(inside, name, before)
    finally:
        os.close(top)
    return deleted


def _candidates(top: int) -> Iterator[tuple[int, str]]:
    """The open folder and the name of each file that may go; `top` is an open folder, too."""
    for _, _, names, inside in os.fwalk(dir_fd=top):
        beside = {Path(name).stem for name in names}
        for name in names:
            made = RESIZED_NAME.fullmatch(name)
            if (made and made["stem"] in beside) or name.startswith(UNFINISHED):
                yield inside, name


def _delete_if_older(inside: int, name: str, before: float) -> bool:
    try:
        found = os.stat(name, dir_fd=inside, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_mtime >= before:
            return False
        os.unlink(name, dir_fd=inside)
    except FileNotFoundError:  # gone meanwhile: another clean-up runs
        return False
    return True
