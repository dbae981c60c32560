"""Hooks that take longer to enter than this supervisor is patient with what is stuck."""

from contextlib import contextmanager

from jiffy import Hooks, clock
from jiffy.worker import child_process, supervisor

child_process.STUCK_RENEWALS, supervisor.RENEW_EVERY_S = 3, 0.1


@contextmanager
def be_slow():
    clock.pause(1.5)
    yield


HOOKS = Hooks(around_child=[be_slow])
