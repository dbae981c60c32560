"""What workers must not run, since it stands outside of JOBS_MODULES.  Tests only name it."""

from tests.jobs.worker import say


def leave_mark(*args):
    say("mark")
