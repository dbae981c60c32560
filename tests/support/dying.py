"""A process that dies between any two words with Redis: after each write, and each answer."""

import itertools
import os

from redis import ConnectionPool, Redis, UnixDomainSocketConnection

from jiffy.worker import process

KILLED = 9


def at_each_step(redis, work):
    """Yield 1, 2, … after a process that did `work(its client)` and died at that step of it.

    The last number is that of the first process that came to the end of its work.
    """
    path = redis.connection_pool.connection_kwargs["path"]
    for step in itertools.count(1):
        code = _run(work, path, step)
        assert code in (0, KILLED), f"It failed by itself, on its way to step {step}"
        yield step
        if code == 0:
            return


def _run(work, path, step):
    def until_death():
        work(_mortal_client(path, step))
        return 0

    _, status = os.waitpid(process.fork(until_death), 0)
    return os.waitstatus_to_exitcode(status)


def _mortal_client(path, steps):
    left = itertools.count(steps - 1, -1)

    class Mortal(UnixDomainSocketConnection):
        def send_packed_command(self, *args, **options):
            super().send_packed_command(*args, **options)
            _die_if(next(left) == 0)

        def read_response(self, *args, **options):
            answer = super().read_response(*args, **options)
            _die_if(next(left) == 0)
            return answer

    return Redis(connection_pool=ConnectionPool(Mortal, path=path, protocol=2))


def _die_if(is_time):
    if is_time:
        os._exit(KILLED)
