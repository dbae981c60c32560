"""Files that are there whole or not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a file is called while it is being written.  One that is old was left by a killed process.
UNFINISHED = ".unfinished-"


@contextmanager
def whole(target: Path, *, mode_of: Path | None = None) -> Iterator[Path]:
    """Give the path to write to; it becomes `target` in one step at the end of the block.

    Until then, and for good if the block fails, whatever was at `target` stays as it was.  The file
    gets the permissions of `mode_of`, or those that new files get.
    Raises FileNotFoundError for a folder that is not there.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{target.parent}' for '{target.name}'.")
    part = target.with_name(UNFINISHED + secrets.token_hex(8))
    try:
        yield part
        if mode_of:
            shutil.copymode(mode_of, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
