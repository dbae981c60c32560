"""RQ's own test suite, run with our workers in place of RQ's: `make compat`."""
