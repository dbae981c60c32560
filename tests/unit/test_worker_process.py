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
def test_the_cause_of_a_death_is_told_in_words(status, words):
    assert process.cause_of(status) == words


def test_a_process_that_is_gone_can_be_sent_a_signal_without_an_error():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    process.send(pid, signal.SIGTERM)
    process.kill_group(pid)

    assert process.ended(pid) == 0
