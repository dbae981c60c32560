"""Run jobs: `python worker.py -n 4 high default low`.  Yours: what surrounds each job."""

from jiffy import Hooks, run_worker

# Context managers around a job, and around the life of a process that runs jobs: docs/hooks.md.
HOOKS = Hooks(around_job=[], around_child=[])

if __name__ == "__main__":
    run_worker(HOOKS)
