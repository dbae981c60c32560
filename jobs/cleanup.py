"""Clearing away what the other jobs have left and nobody needs any longer."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from jiffy import progress
from jobs.files import UNFINISHED
from jobs.images import RESIZED_NAME

_DAY_S = 24 * 60 * 60


def resized(folder: str, days: float = 30) -> int:
    """Delete resized pictures older than `days` in `folder` and all below it; return how many.

    A file goes only if its name is one that `jobs.images.resize` gives (`photo_200x150.jpg`) and
    the picture it was made from (`photo` with any suffix) stands beside it, so it can be made
    again.  So an original is safe, unless you call one just like a resized copy of its neighbour.
    What a killed job left half-written goes too; links are neither followed nor deleted.

    Raises NotADirectoryError if there is no such folder, ValueError for a negative `days`.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"There is no folder '{folder}'.")
    if not days >= 0:
        raise ValueError(f"days is {days!r}; it must be 0 or more.")
    before = time.time() - days * _DAY_S
    deleted = 0
    for found in progress(_candidates(folder), note="looking for old pictures"):
        deleted += _delete_if_older(found, before)
    return deleted


def _candidates(folder: str) -> Iterator[Path]:
    for inside, _, names in os.walk(folder):
        beside = {Path(name).stem for name in names}
        for name in names:
            made = RESIZED_NAME.fullmatch(name)
            if (made and made["stem"] in beside) or name.startswith(UNFINISHED):
                yield Path(inside, name)


def _delete_if_older(found: Path, before: float) -> bool:
    try:
        if found.is_symlink() or found.stat().st_mtime >= before:
            return False
        found.unlink()
    except FileNotFoundError:  # gone meanwhile: another clean-up runs
        return False
    return True
