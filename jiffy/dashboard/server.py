"""`jiffy dashboard`: the web app behind waitress, as in production.

Waitress gives a request a thread once it has arrived, so slow clients hold none.  Here is what it
lacks: a deadline for each request, and a stop that lets running requests finish.
"""

import errno
import logging
import os
import re
import resource
import signal
import socket
import sys
from contextlib import suppress
from heapq import nlargest
from typing import Any

from flask import Flask
from redis.exceptions import RedisError
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest

from jiffy import clock, log, os_compat, redis_io
from jiffy.dashboard import auth
from jiffy.dashboard.api import MOST_WAITING
from jiffy.errors import InvalidSetting, PortTaken
from jiffy.settings import settings

# A thread waits on Redis most of its time; the overview of eight at once is what one core can do.
THREADS = 8
# Of programs, whose requests may be many and large: people do not wait behind them.  Those with
# API_TOKEN have so many, and all others, behind which they do not wait either.
API_THREADS = 8 + MOST_WAITING
# How long a thread may compute before another may: at Python's 5 ms a page takes seconds beside
# requests that are large.
_SWITCH_S = 0.0005
CONNECTIONS = 1000
_ACCEPTED_AT_ONCE = 16
# Requests of a connection that may wait for one another; the last is answered by closing it.
MOST_AHEAD = 4
# Of a connection: itself, a body, answers, and a style sheet for each of its requests.
_FILES_EACH, _OTHER_FILES = 3 + MOST_AHEAD, 100
# A request must have arrived, and some more of an answer must have been read, within this time.
PATIENCE_S = 15.0
# Between two requests.  Longer than proxies keep a connection (Heroku's router for 90 s, nginx and
# AWS' load balancers for 60), or a request might meet one that just closes.
KEPT_S = 95.0
DRAIN_S = 25.0
# As it stops, a proxy may be sending a request on a connection that it has kept.
LINGER_S = 1.0
# The app answers requests over 1 MB itself; waitress reads no more than this.
_MOST_BODY_BYTES = 2 * 1024 * 1024
_MOST_HEADER_BYTES, _MOST_FIELDS, _MOST_CHUNK_LINE_BYTES = 64 * 1024, 100, 1024
# What has arrived of a body, or is not read yet of answers: the rest goes to a file, since all
# connections may have some at once.
_BYTES_IN_MEMORY = 64 * 1024
# Waitress has the thread of a connection's next answer wait while 16 MB of earlier ones are unread.
_MOST_UNREAD_BYTES = 4 * 1024 * 1024
_REQUEST_LINE = re.compile(rb"[A-Z-]+ (?:\*|(?:https?:/)?/[!-~\x80-\xff]*) HTTP/1\.[01]")
_FIELD = re.compile(rb"[\w!#$%&'*+.^`|~-]+:[\t -~\x80-\xff]*")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.  Raises PortTaken or InvalidSetting."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise InvalidSetting("HOST", host, "an address of this machine") from None
        raise PortTaken(host, port, os.strerror(error.errno).lower()) from None


def serve(app: Flask) -> None:
    """Serve `app` at HOST:PORT until SIGTERM or SIGINT."""
    os_compat.share_heap()
    sys.setswitchinterval(_SWITCH_S)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a warning for each busy moment
    with redis_io.in_one_line():
        server = Server(app, settings().host, settings().port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    log.event("web.started", host=settings().host, port=settings().port, pid=os.getpid())
    try:
        redis_io.check(redis_io.shared())
    except RedisError as error:  # the pages say it, too, until it can be used
        log.event("redis.away", log.WARNING, reason=redis_io.explained(error) or error)
    server.run()


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # it has no types
    path = ""  # of what is no request

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        body = self.body_rcv
        # Waitress keeps them whole, and with each byte that arrives looks for their end anew.
        if self.chunked and len(body.control_line) + len(body.trailer) > _MOST_CHUNK_LINE_BYTES:
            self.error = BadRequest(f"Over {_MOST_CHUNK_LINE_BYTES} bytes before or behind a chunk")
            self.completed = True
        if self.completed:  # else waitress says "100 Continue", and waits for more
            self.expect_continue = False
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Refuse what waitress would read in quadratic time, or a proxy in front another way."""
        line, *fields = header_plus.rstrip(b"\r\n").split(b"\r\n")
        if len(fields) > _MOST_FIELDS:
            raise ParsingError(f"More than {_MOST_FIELDS} header fields")
        if not _REQUEST_LINE.fullmatch(line) or not all(map(_FIELD.fullmatch, fields)):
            raise ParsingError("Invalid request line or header field")
        codings = [value.strip().lower() for name, _, value in
                   (field.partition(b":") for field in fields)
                   if name.lower() == b"transfer-encoding"]  # fmt: skip
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # no URL, or a length of thousands of digits
            raise ParsingError(str(error)) from None
        is_unclear = codings != [b"chunked"] or self.version != "1.1"
        if codings and (is_unclear or "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding must be 'chunked', and the only length")
        if codings:  # its end may be understood in two ways: nothing behind it is a request
            self.headers["CONNECTION"] = "close"
        if self.version == "1.1" and "HOST" not in self.headers:
            raise ParsingError("No Host header")


class _Task(WSGITask):  # type: ignore[misc]  # it has no types
    def build_response_header(self) -> bytes:
        """Say that this answer is the connection's last, once the server stops, where a proxy would
        send one more request, or if much is unread with it.
        """
        channel = self.channel
        unread = channel.total_outbufs_len + (self.content_length or 0)
        is_stopping = channel.server.stops_at is not None and len(channel.requests) <= 1
        if is_stopping or unread > _MOST_UNREAD_BYTES:
            self.request.headers["CONNECTION"] = "close"
        return bytes(super().build_response_header())


class _Channel(HTTPChannel):  # type: ignore[misc]  # it has no types
    parser_class = _Parser
    task_class = _Task
    close_when_flushed: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waits_since = clock.monotonic()  # for its next request
        self.has_answered = self.is_over = False

    def write_soon(self, data: Any) -> int:
        self.has_answered = True
        if not self.total_outbufs_len:  # until now we have kept the client waiting
            self.waits_since = clock.monotonic()
        return int(super().write_soon(data))

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send what there is.  Threads say "100 Continue", too, but only the loop, which hears of
        it as well, may close a connection: it may be going through them all.
        """
        with self.outbuf_lock:
            has_sent = self.connected and bool(super()._flush_some(do_close=False))
            if has_sent:
                self.waits_since = clock.monotonic()
            return has_sent

    def readable(self) -> bool:
        return self.is_over or bool(super().readable())

    def handle_write(self) -> None:
        """Say that the last answer was the last, and read what the client still sends until it has
        seen that.  Closed at once, the connection would be reset: a proxy that is sending a body
        may lose the answer, and nginx then asks this process nothing more for 10 s.
        """
        is_last = self.close_when_flushed  # a thread may end its last answer meanwhile
        self._flush_exception(self._flush_some_if_lockable)
        if self.will_close:
            self.handle_close()
        elif is_last and not self.total_outbufs_len:
            self.close_when_flushed = False
            self.is_over = True
            with suppress(OSError):  # it has been reset
                self.socket.shutdown(socket.SHUT_WR)

    def received(self, data: bytes) -> bool:
        if self.is_over:
            return False
        if self.is_kept():  # no longer: its next request begins
            self.waits_since = clock.monotonic()
        taken: bool = super().received(data)
        with self.requests_lock:
            if len(self.requests) > MOST_AHEAD:
                self.requests[MOST_AHEAD - 1].headers["CONNECTION"] = "close"
            for request in self.requests[MOST_AHEAD:]:
                request.close()
            del self.requests[MOST_AHEAD:]
        return taken

    def check_client_disconnected(self) -> bool:
        """Whether no answer can reach the client; shortly before that is so, too, as the server
        stops: then a request that only waits is still answered.
        """
        stops_at = self.server.stops_at
        return not self.connected or bool(stops_at and clock.monotonic() > stops_at - LINGER_S)

    def handle_expt(self) -> None:
        """End it: no HTTP client sends urgent data, which would wake the loop again and again."""
        self.handle_close()

    def is_idle(self) -> bool:
        """Whether it has no request, not even a part of one, and no answer."""
        return self.request is None and not self.requests and not self.total_outbufs_len

    def is_kept(self) -> bool:
        """Whether it is between two requests."""
        return self.has_answered and self.is_idle() and not self.is_over

    def waits_s(self, now: float) -> float:
        """For how long its client has kept us waiting: to send a request, or to read an answer."""
        return 0.0 if self.requests and not self.total_outbufs_len else now - self.waits_since


def _most_connections() -> int:
    """As many as this process may have files for: with too many, none could be accepted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS * _FILES_EACH + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max((soft - _OTHER_FILES) // _FILES_EACH, THREADS)
    return CONNECTIONS


class Server(TcpWSGIServer):  # type: ignore[misc]  # it has no types
    """The HTTP server of the web app.  Raises PortTaken."""

    channel_class = _Channel

    def __init__(self, app: Flask, host: str, port: int) -> None:
        listener = listen(host, port)
        self.stops_at: float | None = None
        self._for_programs = ThreadedTaskDispatcher()
        self._for_readers = ThreadedTaskDispatcher()
        self._for_programs.set_thread_count(API_THREADS)
        self._for_readers.set_thread_count(API_THREADS)
        super().__init__(
            app,
            _sock=listener,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            threads=THREADS,
            connection_limit=_most_connections(),
            asyncore_use_poll=True,
            channel_timeout=10**9,  # by the wall's clock, which may be set; see `_close_late`
            channel_request_lookahead=1,  # else it does not see clients that disconnect
            max_request_body_size=_MOST_BODY_BYTES,
            max_request_header_size=_MOST_HEADER_BYTES,
            inbuf_overflow=_BYTES_IN_MEMORY,
            outbuf_overflow=_BYTES_IN_MEMORY,
            clear_untrusted_proxy_headers=False,  # `app.py` believes them, or ignores them
            ident=None,
        )

    def add_task(self, task: _Channel) -> None:
        """Have a channel's first request answered."""
        request, threads = task.requests[0], self.task_dispatcher
        # Behind a prefix, perhaps; see `is_api` in auth.py.
        if "/api/" in request.path or request.path.endswith("/metrics"):
            role = auth.role_of(request.headers.get("AUTHORIZATION", ""))
            threads = self._for_programs if role == "operator" else self._for_readers
        threads.add_task(task)

    def handle_accept(self) -> None:
        """Accept several: in a flood, each turn of `run` looks at a thousand others first."""
        for _ in range(_ACCEPTED_AT_ONCE):
            super().handle_accept()

    def _close_late(self) -> None:
        """Close the connections of clients that take too long; of too many, those that have taken
        longest.

        Not while `loop` polls: it would close whoever is accepted meanwhile with the same number.
        """
        now = clock.monotonic()
        waits = {channel: channel.waits_s(now) for channel in self.active_channels.values()}
        late = [channel for channel, wait_s in waits.items()
                if wait_s > (KEPT_S if channel.is_kept() else PATIENCE_S)]  # fmt: skip
        if not late and len(self._map) >= self.adj.connection_limit:
            late = nlargest(_ACCEPTED_AT_ONCE, filter(waits.get, waits), waits.__getitem__)
        for channel in late:
            channel.handle_close()

    def stop(self) -> None:
        """Accept no more connections; end when running requests are answered, or DRAIN_S is over.

        For signal handlers and other threads.
        """
        self.stops_at = self.stops_at or clock.monotonic() + DRAIN_S
        self.pull_trigger()

    def run(self) -> None:
        """Serve until `stop`."""
        while self.stops_at is None:
            self._close_late()
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
        known = 0
        while known < len(self._map) < self.adj.connection_limit:  # whoever has connected already
            known = len(self._map)
            self.handle_accept()
        wasyncore.dispatcher.close(self)
        lingers_until = clock.monotonic() + LINGER_S
        while self.active_channels and clock.monotonic() < self.stops_at:
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
            self._close_late()
            for channel in [*self.active_channels.values()]:
                if channel.is_idle() and clock.monotonic() > lingers_until:
                    channel.handle_close()
