"""`python -m jiffy.worker`: the same as `python worker.py`, for projects without that file."""

import sys

from jiffy.worker.command import worker_command

if __name__ == "__main__":
    sys.exit(worker_command())
