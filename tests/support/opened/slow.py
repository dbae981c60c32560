"""A module that opens a socket, and whose import takes until the test lets it go on.

Not where the worker tries it: that one only opens the socket.
"""

import socket

from jiffy import redis_io
from tests.jobs.worker import wait_for

opened = socket.socket()
with redis_io.connect("test") as redis:
    is_tried = redis.incr("test:imports") == 1
if not is_tried:
    wait_for("import")


def ask(number):
    return f"answer to {number}"
