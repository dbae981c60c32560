"""The functions that the tests of enqueuing call."""

import functools

from rq import get_current_job

import jiffy


def nothing():
    pass


def add(x, y=0):
    return x + y


def fail():
    raise ValueError("no card")


def fail_once():
    job = get_current_job()
    if job.connection.incr(f"tries:{job.id}") == 1:
        raise ValueError("not yet")
    return "at last"


def log_in(user, password, *tokens, remember=False):
    """Some of its arguments are secrets."""


def collect(*values, **named):
    return [list(values), named]


def heard(job, connection, *outcome):
    """A callback."""


def enqueue_another():
    jiffy.enqueue(add, 1, 1)


class Greeter:
    def greet(self):
        pass


def without_wraps(func):
    def wrapper():
        return func()

    return wrapper


wrapped = without_wraps(nothing)
cached = functools.lru_cache(add)
