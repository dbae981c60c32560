"""Requests that no browser sends, byte by byte: each is answered at once, and as a proxy in front
would have understood it.
"""

import socket
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /login HTTP/1.1\r\nHost: x\r\n"
GET_FILE = b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\n"
LARGE = 60_000
# Of the square of their length, or worse: one that is read so holds the only thread that reads.
LONG = [
    b"GET a://" + b"1" * LARGE + b" x",
    b"GET http://" + b"a" * LARGE + b" HTTP/1.1 ",
    GET + b"A:" + b" " * LARGE + b"\0",
    GET + b"A:" + b" \t" * (LARGE // 2) + b"\x7f",
    GET + b"A: a" + b"\r\n a" * (LARGE // 4),
    GET + b"A:\r\n" * (LARGE // 4),
]
UNCLEAR = [
    POST + b"Transfer-Encoding: \r\nContent-Length: 5",
    POST + b"Transfer-Encoding: ,",
    POST + b"Transfer-Encoding: chunked, chunked",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    POST + b"Transfer-Encoding: chunked\r\nTransfer_Encoding: x\r\nContent-Length: 5",
    POST + b"Transfer-Encoding:\r\n chunked",
    POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nTransfer-Encoding: chunked",
    POST + b"Content-Length: " + b"9" * 5000,
    POST + b"Content-Length: 5\r\nContent-Length: 0",
    POST + b"Content-Length : 5",
    GET + b"A: b\nTransfer-Encoding: chunked",
    b"GET http://[ HTTP/1.1\r\nHost: x",
    b"GET healthz HTTP/1.1\r\nHost: x",
    b"GET x:healthz HTTP/1.1\r\nHost: x",
    b"GET /healthz",
    b"GET /healthz HTTP/1.2\r\nHost: x",
    b"GET /\0 HTTP/1.1\r\nHost: x",
    b"GET /healthz HTTP/1.1",
    POST + b"Expect: 100-continue\r\nTransfer-Encoding: ,",
]
CHUNKED = POST + b"Transfer-Encoding: chunked"


@pytest.mark.parametrize("head", LONG, ids=range(len(LONG)))
def test_a_head_is_read_in_linear_time(live, head):
    assert answer(live, head)[:12] in (b"HTTP/1.0 400", b"HTTP/1.1 400")


@pytest.mark.parametrize("head", UNCLEAR, ids=range(len(UNCLEAR)))
def test_what_can_be_understood_in_two_ways_is_refused_and_its_rest_is_no_request(
    live, head, capfd
):
    found = answer(live, head, b"0\r\n\r\n" + GET + b"\r\n")

    assert (found[9:12], found.count(b"HTTP/1.")) == (b"400", 1)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("line", [b"5\n", b"5;a\n", b"\r\n5"])
def test_nothing_behind_chunks_is_a_request(live, line):
    chunks = line + b"\r\nhello\r\n0\r\n\r\n"
    found = answer(live, b"", CHUNKED + b"\r\n\r\n" + chunks + GET + b"Connection: close\r\n\r\n")

    assert found.count(b"HTTP/1.") == 1


@pytest.mark.parametrize(
    "host",
    [b"a..b", b".", b"a" * 70, b"[::1", b"a b", b"a@b", b"a/b", b"[:::::::]", b"x:99999", b""],
)
def test_a_host_that_is_no_name_is_refused_in_one_line(live, host):
    head, _, body = answer(live, b"GET /login HTTP/1.1\r\nHost: " + host).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400")
    assert body == b"The Host header has no name of a host.\n"


@pytest.mark.parametrize("host", [b"x", b"x:80", b"my_web.internal.", b"[::1]:8000", b"127.0.0.1"])
def test_any_name_of_a_host_is_taken_where_ours_are_not_known(live, host):
    assert answer(live, b"GET /healthz HTTP/1.1\r\nHost: " + host).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("path", "line", "status"),
    [
        (b"/login", b"Origin: http://[", b"403"),
        (b"/login", b"Referer: http://[x", b"403"),
        (b"/api/jobs", b"Authorization: Basic \xc3\xa9", b"401"),
        (b"/api/jobs", b"Authorization: Bearer \xc3\xa9", b"401"),
        (b"/api/jobs", b'Authorization: Digest a="', b"401"),
    ],
)
def test_an_odd_header_is_refused_like_a_wrong_one(live, path, line, status):
    found = answer(live, b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % path + line)

    assert found[9:12] == status


@pytest.mark.parametrize("line", [b"If-Modified-Since: ", b"Range: bytes=0-1\r\nIf-Range: "])
def test_a_file_is_sent_whatever_time_a_client_asks_about(live, line):
    date = b"Mon, 01 Jan " + b"9" * 20 + b" 00:00:00 GMT"
    found = answer(live, GET_FILE + line + date)

    assert found[9:12] == b"200"


@pytest.mark.parametrize("long", [b"1" * 5000, b"5;a=" + b"b" * 5000, b"0\r\nA: " + b"b" * 5000])
def test_a_line_beside_a_chunk_is_short(live, long):
    assert answer(live, CHUNKED, long)[9:12] == b"400"


@pytest.mark.parametrize("head", [GET, POST + b"Content-Length: 0\r\n"])
def test_a_request_that_has_arrived_is_answered_whatever_it_expects(live, head):
    found = answer(live, head + b"Expect: 100-continue")

    assert (found[:9], found[9:12] in (b"200", b"403")) == (b"HTTP/1.1 ", True)


def test_of_hundreds_of_requests_at_once_the_first_ones_are_answered(live):
    found = answer(live, b"", (GET + b"\r\n") * 150)

    assert found.count(b"HTTP/1.1 200 OK") == 4
    assert found.count(b"Connection: close") == 1


def test_a_client_that_is_refused_may_send_its_request_to_the_end(live):
    """A proxy whose connection is reset meanwhile may take the whole process for broken."""
    url = urlsplit(live)
    with closing(socket.create_connection((url.hostname, url.port), timeout=20)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.sendall(POST + b"Content-Length: 1000000\r\nA: \x01\r\n\r\n")
        with sock.makefile("rb") as file:
            assert file.read()[9:12] == b"400"
        sock.sendall(bytes(1_000_000))


def test_urgent_data_ends_its_connection(live, caplog):
    url = urlsplit(live)
    with closing(socket.create_connection((url.hostname, url.port), timeout=20)) as sock:
        sock.send(b"x", socket.MSG_OOB)
        with suppress(ConnectionResetError):
            assert sock.recv(1) == b""

    assert caplog.records == []


def answer(live, head, body=b""):
    """All that is answered until the server, or the client's deadline, closes the connection."""
    url, end = urlsplit(live), b"\r\nConnection: close\r\n\r\n" if head else b""
    with closing(socket.create_connection((url.hostname, url.port), timeout=20)) as sock:
        sock.sendall(head + end + body)
        found = b""
        while more := sock.recv(65536):
            found += more
    return found
