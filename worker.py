"""Run jobs: `python worker.py -n 4 high default low`.  Yours: what every worker does first."""

from jiffy.cli import main

if __name__ == "__main__":
    main("worker")
