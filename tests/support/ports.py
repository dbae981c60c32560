"""Ports of this machine that nothing listens at, and that no other test process is given."""

import itertools
import os
import socket
from contextlib import suppress

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Below those that the system gives to clients (from 32,768 on), also with the 10,000 that a cluster
# adds: what is free now is free when the server comes that is to have it.
_FIRST = 10_000 + 1000 * (_WORKER % 10)
_numbers = itertools.count(os.getpid())  # another run of these tests begins elsewhere


def free_port(beside=0):
    """A free port; the one that is `beside` above is free, too."""
    while True:
        port = _FIRST + next(_numbers) % 900
        with suppress(OSError):
            for one in {port, port + beside}:
                socket.create_server(("127.0.0.1", one)).close()
            return port
