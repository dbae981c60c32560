"""What a process hears of signals, which may come in the midst of one another."""

import os
import signal
import sys

from jiffy.worker.process import Signals


def test_a_signal_in_the_midst_of_another_is_heard_and_raises_nothing():
    """A second one comes at each line of what the first one does, which is run again for each."""
    left = 0

    def at_line(frame, event, _):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGCHLD)
        return at_line

    def begin(frame, event, _):
        return at_line if frame.f_code is Signals._note.__code__ else None

    before, lines = sys.gettrace(), 0
    with Signals() as signals:
        while left <= 0:
            lines += 1
            left = lines
            sys.settrace(begin)
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                sys.settrace(before)
            assert [*signals.wait(1)] == ["SIGTERM"]
            assert not [*signals.wait(0)]
    assert lines > 2
