"""Requests to the URLs of others: webhooks, pings and alerts.

The other side may be hostile.  A request ends in time, redirects included; of an answer only the
headers are read; and none leads into a private network but to hosts that are named.
"""

import errno
import http.client
import io
import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any
from urllib import request as urllib
from urllib.error import HTTPError, URLError

from jiffy import clock
from jiffy.errors import JiffyError

_NAT64, _MAPPED = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::ffff:0:0/96")
# Of an answer's head: Python also ends a field at a bare \r, and may keep fifty times its size.
_MOST_BYTES = 64 * 1024
_UNICAST, _6TO4 = ipaddress.ip_network("2000::/3"), ipaddress.ip_network("2002::/16")


def send(
    request: urllib.Request, timeout_s: float, hosts: Iterable[str], *, by_proxy: bool = False
) -> None:
    """Send it, and raise an error if the answer is none of success.

    Only `hosts` may have a private address.  With `by_proxy`, proxies that the environment names
    are used, which decide about addresses themselves.
    """
    try:
        _opener(frozenset(hosts), by_proxy).open(request, timeout=timeout_s).close()
    except HTTPError as error:
        error.close()
        raise


def reason(error: Exception) -> str:
    """Why it failed.  Libraries may put the URL into their messages, which is as good as a key."""
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, JiffyError | _Private):
        return str(error)
    strerror = getattr(error, "strerror", None)
    return strerror.lower() if strerror else type(error).__name__


def is_public(written: str) -> bool:
    """Whether an address is a host's in the public internet."""
    address = ipaddress.ip_address(written)
    if address in _NAT64 or address in _MAPPED:  # it leads to the IPv4 address at its end
        address = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
    # Python also calls addresses global that are site-local, or have another one of IPv4 inside.
    is_odd = address.version == 6 and (address not in _UNICAST or address in _6TO4)
    return address.is_global and not address.is_multicast and not is_odd


class _Private(OSError):
    """The address is behind our walls, where others must not lead us."""


def _left(until: float) -> float:
    left_s = until - clock.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class _Bytes(io.RawIOBase):
    """What a socket receives until then: a timeout of its own begins anew with each byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until, self._left_bytes = sock, until, _MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._until))
        count = self._sock.recv_into(buffer)
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise OSError(errno.EMSGSIZE, "the head of the answer is too large")
        return count


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, until: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.until, self.fp = until, io.BufferedReader(_Bytes(sock, until))


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, timeout: float, hosts: frozenset[str] | None, **options: Any):
        super().__init__(host, timeout=timeout, **options)
        self._hosts, self._until = hosts, clock.monotonic() + timeout
        self._create_connection = self._reach
        self.response_class = partial(_Response, until=self._until)  # type: ignore[assignment]

    def _reach(self, address: tuple[str, int], *_: Any) -> socket.socket:
        """Connect to the first of its addresses that answers; a name may have thousands."""
        host, failed = address[0], OSError("no address")
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        for n, each in enumerate(found):
            numeric = str(each[4][0])
            is_checked = self._hosts is not None and host.lower() not in self._hosts
            if is_checked and not is_public(numeric.partition("%")[0]):
                raise _Private(
                    f"{host} is {numeric}, which is not a public address. "
                    "Add the host to WEBHOOK_HOSTS if requests may lead there."
                )
            try:
                share_s = _left(self._until) / (len(found) - n)
                return socket.create_connection((numeric, address[1]), share_s)
            except OSError as error:
                failed = error
        raise failed


class _TLSConnection(_Connection, http.client.HTTPSConnection): ...


class _Handler(urllib.HTTPSHandler, urllib.HTTPHandler):
    def __init__(self, hosts: frozenset[str]) -> None:
        super().__init__()
        self._hosts = hosts

    def http_open(self, request: Any) -> Any:
        return self._open(_Connection, request)

    def https_open(self, request: Any) -> Any:
        return self._open(_TLSConnection, request, context=self._context)  # type: ignore[attr-defined]

    def _open(self, kind: Any, request: Any, **options: Any) -> Any:
        is_by_proxy = request.has_proxy() or request._tunnel_host  # noqa: SLF001 - of https
        hosts = None if is_by_proxy else self._hosts
        return self.do_open(kind, request, hosts=hosts, **options)


class _Redirects(urllib.HTTPRedirectHandler):
    def redirect_request(self, request: Any, response: Any, *args: Any) -> Any:
        response.close()  # else its body is read, however long it is
        request.timeout = _left(response.until)
        further: Any = super().redirect_request(request, response, *args)
        if (further.type, further.host) != (request.type, request.host):
            further.headers.clear()  # what may be a key is for the first host alone
        return further


@lru_cache
def _opener(hosts: frozenset[str], by_proxy: bool) -> urllib.OpenerDirector:
    """Without what `build_opener` has besides: files, and FTP, where a redirect may lead."""
    opener = urllib.OpenerDirector()
    handlers = [
        _Handler(hosts), _Redirects(), urllib.UnknownHandler(), urllib.HTTPDefaultErrorHandler(),
        urllib.HTTPErrorProcessor(),
    ]  # fmt: skip
    for handler in [*handlers, urllib.ProxyHandler()] if by_proxy else handlers:
        opener.add_handler(handler)
    return opener
