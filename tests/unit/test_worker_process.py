"""How a process ended, in words."""

import os
import signal

import pytest

from jiffy.worker import process

CORE_DUMPED = 0x80


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0 << 8, "exit code 0"),
        (3 << 8, "exit code 3"),
        (255 << 8, "exit code 255"),
        (signal.SIGKILL, "signal 9 (SIGKILL)"),
        (signal.SIGSEGV, "signal 11 (SIGSEGV)"),
        (signal.SIGSEGV | CORE_DUMPED, "signal 11 (SIGSEGV)"),
        (signal.SIGRTMIN + 5, "signal 39"),
    ],
)
def test_the_cause_of_a_death_is_named(status, words):
    assert process.cause_of(status) == words


def test_a_signal_to_an_ended_process_is_no_error():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    process.send(pid, signal.SIGTERM)
    process.kill_group(pid)

    assert process.ended(pid) == 0
