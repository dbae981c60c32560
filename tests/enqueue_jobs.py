"""The functions that the tests of enqueuing call."""

import functools

import jiffy


def nothing():
    pass


def add(x, y=0):
    return x + y


def fail():
    raise ValueError("no card")


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


nameless = lambda: None  # noqa: E731 - that is the point


def without_wraps(func):
    def wrapper():
        return func()

    return wrapper


wrapped = without_wraps(nothing)
cached = functools.lru_cache(add)
