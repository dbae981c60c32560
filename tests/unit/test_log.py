"""What stands in a log's lines: no control character of a job, and no line that a job forged."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from jiffy import log

EVIL = "\\x1b[2J\\r\\n23:59:59.000 INFO job.finished job=forged\\x9b\\u2028\\ud800\\t\\x00"
PROGRAM = f"""
import logging
from jiffy import log
log.setup("INFO")
evil = "{EVIL}"
log.job_id = "one"
mine = logging.getLogger("shop" + evil)
mine.info("sold %s", evil)
mine.info(evil, extra={{"who": evil}}, stack_info=True)
try:
    raise ValueError(evil) from KeyError(evil)
except ValueError:
    mine.exception("failed %s", evil)
log.event("job.failed", log.ERROR, reason=evil, **{{"a": ""}})
log.job("job.finished", 0, job=evil, func="f")
log.flush()
"""


def test_a_job_can_put_no_control_character_and_no_line_into_the_log():
    written = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60
    ).stdout.decode()
    lines = written.splitlines()
    own = [line for line in lines if re.match(r"\d\d:\d\d:\d\d", line)]

    assert [line for line in lines if not line.isprintable()] == []
    assert len(own) == 5
    assert [line for line in lines if line not in own and not line.startswith("  ")] == []


def test_the_line_of_a_job_has_the_time_of_its_end(capfd):
    log.setup("WARNING")
    log.job("job.failed", 3661.25, log.ERROR, job="one")
    log.job("job.finished", 3661.5, job="two")
    log.flush()

    assert capfd.readouterr().out == "01:01:01.250 ERROR job.failed job=one\n"


BATCH = """
from jiffy import log
log.setup("INFO")
for number in range(1000):
    log.job("job.finished", 0, job=f"default-{number}", func="tests.jobs.worker.nothing")
log.flush()
"""


def test_each_piece_of_a_batch_ends_with_a_line():
    """Other processes of the worker write to the same log between two pieces."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        child = subprocess.Popen([sys.executable, "-c", BATCH], stdout=its)
        its.close()
        pieces = list(iter(lambda: ours.recv(1 << 20), b""))

    assert child.wait() == 0
    assert len(pieces) > 1
    assert [piece for piece in pieces if not piece.endswith(b"\n")] == []
    assert b"".join(pieces).count(b"job.finished") == 1000


FULL = """
import sys
from pathlib import Path
print("before the log is set up")
from jiffy import log
log.setup("INFO")
log.event("worker.started")
sys.stderr.write("goes on")
"""


def test_a_log_on_a_full_disk_keeps_no_process_from_starting():
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", FULL], stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, timeout=60, env=os.environ | {"PYTHONUNBUFFERED": ""},
        )  # fmt: skip

    assert ran.stderr.startswith("goes on")
