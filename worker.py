"""Run jobs: `python worker.py -n 4 high default low`."""

import sys

from jiffy.worker.command import worker_command

if __name__ == "__main__":
    sys.exit(worker_command())
