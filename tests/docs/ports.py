"""Ports of this machine that nobody listens at."""

import socket
from contextlib import closing, suppress


def two_free_ports():
    """A free port; the one 100 above is free, too."""
    while True:
        with closing(socket.socket()) as first, closing(socket.socket()) as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 100))
                return port
