"""The functions that the jobs of the scenarios call.  They leave word of themselves in Redis."""

import pickle
import sys
import threading

import rq

from jiffy import redis_io
from tests.compat import traces

CALLS = "test:calls"


class LabelledJob(rq.job.Job):
    """A job class of a user's own."""

    def perform(self):
        self.meta["label"] = "custom"
        return super().perform()


def _redis():
    return redis_io.connect("test")


def _say(text):
    _redis().rpush(CALLS, text)


def add(x, y):
    return x + y


def union(left, right):
    return left | right


async def add_later(x, y):
    return x + y


def fail(message="it broke"):
    raise ValueError(message)


def fail_until_the_last_try():
    if rq.get_current_job().retries_left:
        raise ValueError("not yet")
    return "at last"


def leave(code):
    sys.exit(code)


def ask_for_a_retry(max_retries, interval=0, at_front=False):
    return rq.Retry(max=max_retries, interval=interval, enqueue_at_front=at_front)


def note(text):
    _say(text)


def wait_for_ever():
    _say("begun")
    threading.Event().wait()


def return_what_cannot_be_sent():
    return threading.Lock()


def save_meta():
    job = rq.get_current_job()
    job.meta["rows"] = 12
    job.save_meta()


def look_around():
    """Keep a picture of all that is in Redis while this job runs."""
    redis = _redis()
    redis.set(traces.WHILE_RUNNING, pickle.dumps(traces.take(redis)))


def fail_once_then_look_around():
    if not _redis().incr("test:tries") > 1:
        raise ValueError("not yet")
    look_around()


def delete_myself():
    rq.get_current_job().delete()


def cancel_myself():
    rq.get_current_job().cancel()


def on_success(job, redis, result):
    _say(f"success of {job.id}: {result}")


def on_failure(job, redis, kind, error, traceback):
    _say(f"failure of {job.id}: {kind.__name__}: {error}")


def on_stopped(job, redis):
    _say(f"stopped: {job.id}")


def on_success_broken(job, redis, result):
    raise RuntimeError("the success callback broke")


def on_failure_broken(job, redis, kind, error, traceback):
    raise RuntimeError("the failure callback broke")


def handler(job, kind, error, traceback):
    _say(f"handler: {job.id}: {kind.__name__}: {error}")


def last_handler(job, kind, error, traceback):
    _say("last handler")
    return False
