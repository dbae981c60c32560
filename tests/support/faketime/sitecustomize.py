"""What Python needs under libfaketime 0.9.10; `bin/test-dates` puts this folder on PYTHONPATH."""

import ctypes
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

# It reads the environment whenever a thread waits, without a lock, and the C library frees the old
# table when a variable is added: each change makes a new table, and keeps the old ones.
table = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
tables = []


def replace(variables):
    lines = [name + b"=" + value for name, value in variables.items()]
    tables.append((ctypes.c_char_p * (len(lines) + 1))(*lines, None))
    table.value = ctypes.addressof(tables[-1])


def putenv(name, value):
    replace({**os.environb, os.fsencode(name): os.fsencode(value)})


def unsetenv(name):
    replace({key: value for key, value in os.environb.items() if key != os.fsencode(name)})


os.putenv, os.unsetenv = putenv, unsetenv
