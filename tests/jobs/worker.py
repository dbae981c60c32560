"""The functions that the tests of the worker call.  What they say can be heard in Redis."""

import asyncio
import ctypes
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import rq
from rq import get_current_job

import jiffy
from jiffy import progress, redis_io

SAID = "test:said"
LONGEST_WAIT_S = 200


def say(text):
    """Let the test know; what is said is heard in order."""
    with redis_io.connect("test") as redis:
        redis.rpush(SAID, text)


def nothing():
    pass


def collect(*values):
    """Return what JSON has no word for."""
    return set(values)


class Counter:
    """Its methods are jobs only where they come pickled."""

    def __init__(self, start):
        self.start = start

    def add(self, x):
        return self.start + x


class Orders:
    """Its public static and class methods are jobs; nothing else of it is."""

    @staticmethod
    def count(number: int) -> int:
        return number

    @classmethod
    def name(cls, number: int) -> str:
        return f"{cls.__name__} {number}"

    @classmethod
    def _hidden(cls):
        say("mark")

    def close(self):
        say("mark")

    class Line:
        @staticmethod
        def double(number: int) -> int:
            return 2 * number


class Returns(Orders):
    """It inherits its methods."""


class _Session:
    @staticmethod
    def send():
        say("mark")


def _hidden():
    say("mark")


def say_and_fail(text):
    say(text)
    raise ValueError(text)


def add(x, y):
    return x + y


async def add_later(x, y):
    await asyncio.sleep(0)
    return x + y


def fail(message="it broke"):
    raise ValueError(message)


def charge(card):
    """It fails as long as the card is broken."""
    if get_current_job().connection.sismember("test:broken", card):
        raise LookupError(f"no card {card}")


def fail_until_the_last_try():
    if get_current_job().retries_left:
        raise ValueError("not yet")
    return "at last"


def ask_for_a_retry(most, interval=0):
    return rq.Retry(max=most, interval=interval)


def ask_for_our_retry():
    return jiffy.Retry(max=2, pause="100s")


def leave(code):
    """What `sys.exit` does is not the end of the worker."""
    sys.exit(code)


def return_text(size):
    return "x" * size


def ask_for_a_retry_never():
    return rq.Retry(3, [float("nan")])


def raise_what_has_no_text():
    raise SyntaxError("odd", ("shop.html", 1, object(), "{% for %}"))


def return_what_cannot_be_sent():
    return {"lock": threading.Lock()}


def tell_id():
    return get_current_job().id


def write_meta(**values):
    """Assign before anything was read."""
    job = get_current_job()
    for name, value in values.items():
        job.meta[name] = value
    job.save_meta()


def delete_and(save):
    """As someone else deletes it, and it writes down what it has done."""
    job = get_current_job()
    job.meta["rows"] = 12
    type(job).fetch(job.id, job.connection).delete()
    getattr(job, save)()


def rename(description):
    """An assignment is the first thing that is done with the job."""
    job = get_current_job()
    job.description = description
    job.save(include_meta=False)


def step():
    progress.update(0.5, "half-way")


def step_while_redis_is_full():
    redis = get_current_job().connection
    redis.config_set("maxmemory", 1)
    try:
        progress.update(0.5, "half-way")
    finally:
        redis.config_set("maxmemory", 0)
    return "went on"


def note_success(job, redis, result):
    redis.rpush(SAID, f"success of {job.id}: {result}")


def note_failure(job, redis, kind, error, traceback):
    redis.rpush(SAID, f"failure of {job.id}: {kind.__name__}: {error}")


def note_stopped(job, redis):
    redis.rpush(SAID, f"stopped {job.id}")


def fail_as_callback(job, redis, *args):
    raise RuntimeError("the callback broke")


def handle(job, kind, error, traceback):
    job.connection.rpush(SAID, f"handled {job.id}: {kind.__name__}")


def fail_as_handler(job, kind, error, traceback):
    raise RuntimeError("the handler broke")


def exit_as_handler(job, kind, error, traceback):
    sys.exit("the handler left")


def wait_for(name):
    """Say that it began, wait until the test lets it go on, say that it ended."""
    say(f"{name} begun")
    with redis_io.connect("test", answer_timeout_s=None) as redis:
        redis.blpop(f"test:go:{name}", LONGEST_WAIT_S)
    say(f"{name} ended")
    return name


def print_and_wait(name):
    print(f"{name} printed")  # noqa: T201
    wait_for(name)


def nothing_or_wait(waits):
    """Nothing, but in one of many calls."""
    if waits:
        wait_for("a")


def swallow_the_interruption(name):
    """Go on although it is asked to leave, whatever it is asked with."""
    say(f"{name} begun")
    while True:
        try:
            threading.Event().wait()
        except BaseException:  # noqa: BLE001 - that is the point
            continue


def tidy_up(name):
    """Say what it was interrupted with."""
    say(f"{name} begun")
    try:
        threading.Event().wait(LONGEST_WAIT_S)
    except BaseException as error:
        say(f"{name} left by {type(error).__name__}")
        raise


def last(duration_s):
    """Take its time, without Redis."""
    threading.Event().wait(duration_s)
    return "done"


def hold(name):
    """Wait in C for ever, for a lock, and let no other Python code run, signal handlers least."""
    say(f"{name} begun")
    libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def wait_for_file(gate, ledger):
    """Without Redis: begin, wait until there is such a file, end."""
    note_in_file(ledger, "begun")
    while not Path(gate).exists():
        threading.Event().wait(0.02)
    note_in_file(ledger, "ended")
    return "done"


def note_in_file(ledger, text="noted"):
    with Path(ledger).open("a") as file:
        file.write(f"{text}\n")


def quick_or_slow(name, takes_s):
    """At first a blink, then long, while the interpreter is held."""
    ctypes.PyDLL(None).usleep(int(takes_s * 1e6))
    say(name)


def say_or_wait(name, gate, holds):
    """Say the name; in one of many calls, once a test opens this pipe, perhaps with the
    interpreter held until then."""
    libc = (ctypes.PyDLL if holds else ctypes.CDLL)(None)
    while gate and libc.open(gate.encode(), os.O_RDONLY) == -1:
        pass  # a signal came
    say(name)


def sum_up(name, ends):
    """Say what became of a group's parts."""
    say(f"{name}: {' '.join(end['status'] for end in ends)}")


def segfault():
    # No file for it: a core of every child would fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def exit_at_once(code):
    os._exit(code)


def kill_itself(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def say_or_die(text, dies):
    if dies:
        kill_itself()
    say(text)


def hog_memory(megabytes):
    hoard = [bytearray(b"x" * 1_000_000) for _ in range(megabytes)]
    threading.Event().wait(LONGEST_WAIT_S)
    return len(hoard)


def tell_process():
    return os.getpid()


def fork_and_return():
    """The copy returns like the job itself, which lasts longer."""
    copy = os.fork()
    if not copy:
        return "copy"
    os.waitpid(copy, 0)
    return "job"


def fork_and_exit(code):
    copy = os.fork()
    if not copy:
        sys.exit(code)
    os.waitpid(copy, 0)
    return "job"


def leave_an_alarm():
    signal.alarm(1)


def become_a_program():
    os.execvp("sleep", ["sleep", "60"])


def start_a_program():
    """Leave a program behind that would outlive the job; when it runs again, do nothing."""
    if get_current_job().connection.exists(SAID):
        return
    pid = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60")
    say(str(pid))
    threading.Event().wait(LONGEST_WAIT_S)
