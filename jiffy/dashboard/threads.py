"""Gunicorn's threads, kept from clients that send slowly, or begin a request and never end it.

A request is given a thread once it has arrived.  Until then its socket waits in the poller, where
a thousand cost nothing.  What is too long to wait there is read by a thread, but not for ever.
"""

import re
import selectors
import socket
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from jiffy import clock

_MOST_BYTES = 64 * 1024  # what any socket's buffer holds; most requests have a hundredth of it
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,9})", re.IGNORECASE | re.MULTILINE)
# It comes in chunks; or once the thread has said "100 Continue".
_READ_TO_KNOW = re.compile(rb"^(transfer-encoding|expect):", re.IGNORECASE | re.MULTILINE)


class Threads(ThreadWorker):  # type: ignore[misc]  # it has no types
    """For gunicorn's `worker_class`: its `gthread`, of which slow clients hold sockets only."""

    arrives_within_s = 15.0
    closes_within_s = 2.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._until: dict[TConn, float] = {}  # what is sent later is not read

    def enqueue_req(self, conn: TConn) -> None:
        """Give it a thread once its request has arrived."""
        self._until[conn] = clock.monotonic() + self.arrives_within_s
        conn.data_ready = True
        if _is_read_ahead(conn) or self._has_arrived(conn):
            super().enqueue_req(conn)
        else:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._look, conn))

    def _look(self, conn: TConn, sock: socket.socket) -> None:
        if self._has_arrived(conn):
            self.poller.unregister(sock)
            super().enqueue_req(conn)

    def _has_arrived(self, conn: TConn) -> bool:
        """Whether a thread is to read it; else the kernel is told how much more to wait for."""
        waited_for = conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        try:
            seen = conn.sock.recv(_MOST_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError as error:  # that it was reset, the thread finds out
            return not isinstance(error, BlockingIOError)
        length = _length(seen)
        if len(seen) >= length:
            self._until.pop(conn, None)  # nothing is to come, and its answer may take its time
        least = int(min(length, _MOST_BYTES))
        # Being woken for less than was waited for means that it ends here.
        is_for_thread = length == inf or len(seen) >= least or len(seen) < waited_for
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 if is_for_thread else least)
        return is_for_thread

    def finish_request(self, conn: TConn, answered: "Future[Any]") -> None:
        """Its thread is done with it: keep it for the next request, or close it."""
        self._until.pop(conn, None)
        if answered.cancelled() or answered.exception() or answered.result():
            super().finish_request(conn, answered)
        else:
            self._close(conn)

    def _close(self, conn: TConn) -> None:
        """Say that this was all, and close it when the other side does.

        Closed at once, the other side could lose the end of the answer: RFC 9112, 9.6.  Gunicorn
        waits for that in the one thread that all others wait for.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):  # it is closed already
            self.nr_conns -= 1
            conn.close()
        else:
            self._until[conn] = clock.monotonic() + self.closes_within_s

    def _drain(self, conn: TConn, sock: socket.socket) -> None:
        with suppress(OSError):
            if sock.recv(_MOST_BYTES):
                return
        self.poller.unregister(sock)
        self._until.pop(conn, None)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Called each second: read no more of what has had its time.

        Whoever waits for it, here or in a thread, is told that this was all; answers still go out.
        """
        for conn, until in list(self._until.items()):
            if until < clock.monotonic():
                self._until.pop(conn, None)
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)

    def _cap_keepalive(self, deadline: float) -> None:
        """The process stops: wait no longer for what has not arrived than for what is idle."""
        super()._cap_keepalive(deadline)
        self._until = {conn: min(until, deadline) for conn, until in self._until.items()}


def _is_read_ahead(conn: TConn) -> bool:
    """Whether its next request, or a part of it, came with the one before."""
    return conn.parser is not None and bool(conn.parser.unreader.buf.getvalue())


def _length(seen: bytes) -> float:
    """How long a request is, as far as what has come of it tells; inf: only reading it tells."""
    head, end, _ = seen.partition(b"\r\n\r\n")
    if not end:
        return len(seen) + 1
    if _READ_TO_KNOW.search(head):
        return inf
    length = _LENGTH.search(head)
    return len(head) + len(end) + (int(length[1]) if length else 0)
