"""Deleting files that other jobs have written and that are no longer needed."""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from jiffy import progress
from jiffy.files import UNFINISHED, open_folder
from jobs.images import RESIZED_NAME

_DAY_S = 24 * 60 * 60


def resized(folder: str, days: float = 30) -> int:
    """Delete resized pictures older than `days` in and below `folder`; return how many.

    Only a file with a name that `jobs.images.resize` gives (`photo_200x150.jpg`) is deleted, and
    only if the original (`photo` with any suffix) is beside it, so that it can be made again.  So
    is what a killed job left half-written.  Links are neither followed nor deleted.

    Raises FileNotFoundError or NotADirectoryError if there is no such folder, ValueError for one
    outside JOBS_FILES and for negative `days`.
    """
    if not days >= 0:
        raise ValueError(f"days is {days!r}; it must be 0 or more.")
    before = time.time() - days * _DAY_S
    top, deleted = open_folder(folder), 0
    try:
        for _, _, names, inside in progress(os.fwalk(dir_fd=top), note="looking for old pictures"):
            originals = {Path(name).stem for name in names}
            for name in names:
                made = RESIZED_NAME.fullmatch(name)
                if not (made and made["stem"] in originals) and not name.startswith(UNFINISHED):
                    continue
                with suppress(FileNotFoundError):  # another clean-up has deleted it
                    found = os.stat(name, dir_fd=inside, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                        os.unlink(name, dir_fd=inside)
                        deleted += 1
    finally:
        os.close(top)
    return deleted
