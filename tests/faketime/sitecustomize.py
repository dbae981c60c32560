"""What Python needs under libfaketime 0.9.10; `bin/test-dates` puts this folder on PYTHONPATH."""

import os
import select
import time
from contextlib import suppress
from pathlib import Path


def sleep(duration_s):
    # Python's own waits until a moment of the monotonic clock, of which libfaketime takes off the
    # shift although that clock is not shifted: "Invalid argument".
    select.select([], [], [], duration_s)


time.sleep = sleep

# It maps this file and leaves it open: a worker would say that its program has opened it.
for fd in Path("/proc/self/fd").iterdir():
    with suppress(OSError):  # the one of this list is closed
        if fd.readlink().name.startswith("faketime_shm_"):
            os.close(int(fd.name))
