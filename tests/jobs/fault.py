"""Jobs that do to their process what no job should."""

import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from redis import Redis
from rq import get_current_job

from jiffy import keys
from jiffy.worker import finish
from jiffy.worker.run import Interrupted, Runner, Stopped
from tests.jobs.worker import say


def fork_and_raise():
    """Leave a copy of this process whose run of the job fails."""
    if os.fork() == 0:
        raise RuntimeError("in the copy")
    os.wait()
    say("the job went on")


def fork_and_come_back():
    if os.fork() == 0:
        return "the copy"
    os.wait()
    return "the job"


def close_the_output():
    sys.stdout.close()


def fill_the_output():
    """Let the next line that is written wait without end."""
    read, write = os.pipe()
    os.dup2(write, 1)
    os.set_blocking(1, False)
    try:
        while True:
            os.write(1, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(1, True)
    say(f"full {read}")


def block_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGRTMIN + 3):
        signal.signal(number, signal.SIG_DFL)


def lower_its_limits():
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))


def terminate_a_process():
    """Return the exit code of a process that was asked to end."""
    process = multiprocessing.get_context("fork").Process(target=signal.pause)
    process.start()
    process.terminate()
    process.join(5)
    return process.exitcode


def use_a_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sum(pool.map(abs, [-1, -2, -3]))


def hold_the_log():
    """Leave a thread that holds the lock of what writes the worker's log."""
    is_held = threading.Event()

    def hold():
        logging.root.handlers[0].acquire()
        is_held.set()
        threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    is_held.wait()


def spoil_its_outcome():
    """Let what this process writes next of a finished job be nothing that Redis takes."""

    def spoil(outcome, plan):
        plan.status, plan.ttl_s = "finished", "spoilt"

    finish._plan_finished = spoil


def spoil_all_outcomes(plan):
    """Let all that this process writes down of jobs be no outcome."""
    finish.plan_for = lambda outcome: plan.encode()


def raise_what_the_engine_raises(name):
    raise {"Interrupted": Interrupted, "Stopped": Stopped}[name]


def select_another_database(job=None, *_error):
    """Leave the connection of this process in another database, as a job or as a callback."""
    (job or get_current_job()).connection.select(5)


def say_and_send(text, *words):
    """Send a command on the connection of this process, if any, as redis-py knows none."""
    say(text)
    if words:
        get_current_job().connection.execute_command(*words)


def end_the_process_between_jobs():
    """Leave a thread that ends this process, as if all was well, when no job is on record."""
    frames = [frame for frame, _ in traceback.walk_stack(None)]
    [runner] = {one for frame in frames if isinstance(one := frame.f_locals.get("self"), Runner)}

    def end():
        while runner.board.running:
            time.sleep(0)
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()


def tell_how_a_copy_ended():
    """Return the exit code of a copy of this process that leaves as programs do."""
    copy = os.fork()
    if not copy:
        sys.exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])


class ForksWhenShown(Exception):
    """What leaves a copy of the process that formats its traceback."""

    def __str__(self):
        os.fork()
        return "the copy, or the job"


def raise_what_forks():
    raise ForksWhenShown


class ForksWhenCompared:
    def __eq__(self, other):
        os.fork()
        return False

    __hash__ = None


def leave_what_forks():
    sys.argv = ForksWhenCompared()


class KillsWhenRead:
    """What ends the process that unpickles it."""

    def __reduce__(self):
        return os.kill, (0, signal.SIGKILL)


class HangsWhenRead:
    def __reduce__(self):
        return signal.pause, ()


def take(anything):
    return None


def spoil_its_dependency(redis_url, dependency):
    """Put something of another type in the place of a job's hash."""
    with Redis.from_url(redis_url) as redis:
        redis.delete(keys.job(dependency))
        redis.set(keys.job(dependency), "odd")


def spoil_the_clock():
    """Let this process find no time that anything can hold."""
    time.time = lambda: 1e30


def leave_a_process_behind():
    """Return whether that is reaped, by the first process of this container, when it has ended."""
    shell = ["sh", "-c", "sleep 0.2 >/dev/null & echo $!"]
    left = Path("/proc") / subprocess.run(shell, capture_output=True, text=True).stdout.strip()
    deadline = time.monotonic() + 20
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not left.exists()
