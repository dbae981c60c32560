"""RQ's and rq-scheduler's own tests, run with our classes in place of theirs: `make compat`."""
