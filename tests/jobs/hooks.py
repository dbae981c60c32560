"""Hooks and jobs whose order can be heard in Redis."""

import logging
import os
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from rq import get_current_job

from jiffy import Hooks
from tests.jobs.worker import say

tenant = ContextVar("tenant", default="none")


def saying(name):
    @contextmanager
    def hook(*job):
        say(f"{name} enters")
        error = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            say(f"{name} leaves {type(error).__name__}" if error else f"{name} leaves")

    return hook


@contextmanager
def of_tenant(job):
    assert job == get_current_job()
    tenant.set(job.meta["tenant"])
    yield


@contextmanager
def too_late(job):
    yield
    raise LookupError("nothing to enter")


@contextmanager
def too_early(job):
    raise LookupError("nothing to enter")
    yield


@contextmanager
def swallow(job):
    with suppress(BaseException):
        yield


@contextmanager
def replace(job):
    try:
        yield
    except Exception as error:
        raise KeyError("other") from error


def no_context(job):
    return None


def bare(job):
    yield


IN_ORDER = Hooks([saying("outer"), saying("inner")], [saying("child")])
TENANT = Hooks([of_tenant])
TOO_LATE, TOO_EARLY = Hooks([too_late]), Hooks([too_early])
SWALLOW, REPLACE, NO_CONTEXT = Hooks([swallow]), Hooks([replace]), Hooks([no_context])
NO_CHILD = Hooks([], [lambda: too_early(None)])
BARE, NUMBER, NO_LIST, no_hooks = Hooks([bare]), Hooks([3]), Hooks(swallow), {"around_job": []}


def tell_tenant():
    say(tenant.get())


def note_success(job, connection, result):
    say("succeeded")


def note_failure(job, connection, *error):
    say("failed")


async def tell_tenant_later():
    say(tenant.get())


def set_user(name):
    import sentry_sdk

    sentry_sdk.set_user({"username": name})
    sentry_sdk.set_tag("by", name)


def write_lines():
    logging.getLogger("shop").warning("of a job")
    thread = threading.Thread(target=logging.getLogger("shop").error, args=["of its thread"])
    thread.start()
    thread.join()


def ignore_everything():
    say("ignores")
    while True:
        with suppress(BaseException):
            threading.Event().wait(60)


def fork():
    """A copy that comes back must not leave the hooks in the job's stead."""
    if not os.fork():
        return
    os.wait()
