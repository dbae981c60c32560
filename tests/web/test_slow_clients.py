"""Clients that send slowly, or begin a request and never end it, do not delay others."""

import http.client
import os
import select
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from jiffy import keys, os_compat
from jiffy.dashboard.server import API_THREADS
from tests.support.newcomer import PATIENCE_S, wait_until
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOKEN = "a-token"
# As `python dashboard.py`, but with less patience.
PROGRAM = """
import dashboard
from jiffy.dashboard import server
server.PATIENCE_S = {patience_s}
server.serve(dashboard.app)
"""
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UNFINISHED = [
    b"",
    b"G",
    GET[:-2],
    b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nuser=ad",
]
CHUNKED = (
    b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n9\r\nuse"
)
# Each is sent at once, and then no more.
STOPPING = [
    GET + GET[:30],
    UNFINISHED[3].replace(b"Host", b"Expect: 100-continue\r\nHost").partition(b"user")[0],
    CHUNKED,
    b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nuser=" + b"x" * 100_000,
]


def test_hundreds_of_unfinished_requests_delay_no_other(serving, dial):
    with serving(patience_s=300) as port:
        held = [dial(port, UNFINISHED[number % 4]) for number in range(400)]
        statuses = [status(port, path) for path in ("/healthz", "/login", "/api/queues")]
        still_open = [sock for sock in held if not is_readable(sock)]

    assert statuses == [200, 200, 200]
    assert len(still_open) == len(held)


@pytest.mark.parametrize(("files", "patience_s"), [("-Sn 256", 300), ("-n 256", 0.5)])
def test_bodies_in_files_leave_files_for_others(serving, dial, files, patience_s):
    with serving(patience_s, files) as port:
        held = [dial(port, STOPPING[3]) for _ in range(200)]

        assert status(port, "/healthz") == 200
        assert len(held) == 200


@pytest.mark.parametrize("begin", UNFINISHED)
def test_more_silent_clients_than_it_has_connections_for_delay_no_other(serving, dial, begin):
    with serving(patience_s=300, files="-n 256") as port:  # enough for 22
        held = [dial(port, begin) for _ in range(100)]

        assert [status(port, "/healthz") for _ in range(3)] == [200, 200, 200]
        wait_until(lambda: sum(map(is_readable, held)) > 50)  # have been closed


@pytest.mark.parametrize("begin", UNFINISHED)
def test_a_request_that_does_not_arrive_in_time_is_cut_off(serving, dial, begin):
    with serving(patience_s=0.5) as port:
        assert b" 200 OK" not in read(dial(port, begin))


@pytest.mark.parametrize("begin", STOPPING)
def test_a_request_that_stops_in_the_middle_holds_no_thread(serving, dial, begin):
    with serving(patience_s=300) as port:
        held = [dial(port, begin) for _ in range(20)]

        assert status(port, "/healthz") == 200
        assert len(held) == 20
    with serving(patience_s=0.5) as port:  # on a busy machine, the first may be late, too
        wait_until(lambda: read(dial(port, begin)).count(b" 200 OK") == begin.count(GET))


def test_a_connection_is_kept_between_two_requests_for_longer_than_a_request_may_take(serving):
    with (
        serving(patience_s=0.5) as port,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as kept,
    ):
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        for _ in range(
            2
        ):  # silent clients, one after the other, of which each is closed after 0.5 s
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as silent:
                assert silent.recv(1) == b""
        first = kept.sock
        kept.request("GET", "/healthz")
        assert (kept.getresponse().status, kept.sock) == (200, first)


def test_clients_that_never_read_a_large_answer_hold_no_thread_and_are_cut_off(
    serving, dial, plant
):
    plant("big", result="x" * 900_000)
    request = GET.replace(b"/healthz", b"/api/jobs/big").replace(b"x", BEARER_LINE)
    with serving(patience_s=300) as port:
        held = [dial(port, request) for _ in range(20)]

        assert status(port, "/healthz") == 200
        assert len(held) == 20
    with serving(patience_s=0.5) as port:
        sock = dial(port, request * 30, receive_bytes=4096)
        wait_until(lambda: has_been_closed(sock))


def test_answers_that_no_one_reads_are_not_in_memory(serving, dial, plant):
    plant("big", result="x" * 900_000)
    request = GET.replace(b"/healthz", b"/api/jobs/big").replace(b"x", BEARER_LINE)
    with serving() as port:
        status(port, "/api/jobs/big")
        before = os_compat.memory_bytes(serving.pid)
        held = [dial(port, request, receive_bytes=4096) for _ in range(100)]
        answered = [is_readable(sock, PATIENCE_S) for sock in held]
        grew_bytes = os_compat.memory_bytes(serving.pid) - before

    assert all(answered)
    assert grew_bytes < 40_000_000  # of 90


def has_been_closed(sock):
    """Whether the server has closed the connection, found out without reading what it sent."""
    try:
        sock.sendall(b"x")
    except OSError:
        return True
    return False


def test_a_client_that_sends_byte_by_byte_is_cut_off_too(serving, dial):
    with serving(patience_s=1) as port:
        sock = dial(port, b"GET /healthz HTTP/1.1\r\nX: ")

        wait_until(lambda: has_been_closed(sock) or is_readable(sock, within_s=0.1))

        assert read(sock) == b""


def test_a_request_in_pieces_is_answered(serving, dial):
    whole = (
        b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: 99\r\n\r\n"
        + b'{"function": "jobs.numbers.add", "args": [5, 3]}'.ljust(99)
    )
    with serving() as port:
        sock = dial(port, whole[:1])
        for piece in (whole[1:90], whole[90:-40], whole[-40:]):
            assert not is_readable(sock, within_s=0.2)
            sock.sendall(piece)

        assert sock.makefile("rb").readline() == b"HTTP/1.1 202 ACCEPTED\r\n"


def test_a_body_of_a_megabyte_or_in_chunks_is_answered(serving):
    call = b'{"function": "jobs.numbers.add", "args": [5, 3]}'
    with serving() as port:
        for body in (call.ljust(900_000), iter([call[:9], call[9:]])):
            with browsing(port) as web:
                web.request("POST", "/api/jobs", body, JSON | BEARER)
                assert web.getresponse().status == 202


def test_a_client_that_expects_100_continue_gets_it(serving, dial):
    with serving(patience_s=300) as port:
        sock = dial(port, UNFINISHED[3].replace(b"Host", b"Expect: 100-continue\r\nHost"))

        assert sock.recv(1024).startswith(b"HTTP/1.1 100 Continue")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_request_with_two_lengths_is_refused_and_its_rest_is_none(serving, dial, version):
    head = b"POST /login HTTP/%b\r\nHost: x\r\nConnection: keep-alive\r\n" % version
    lengths = b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with serving() as port:
        answer = read(dial(port, head + lengths + GET))

    assert answer.startswith(b"HTTP/%b 400" % version)
    assert answer.count(b"HTTP/") == 1


def test_a_connection_serves_one_request_after_the_other(serving, dial):
    with serving() as port:
        with browsing(port) as web:
            for _ in range(3):
                web.request("GET", "/healthz")
                assert web.getresponse().read().startswith(b"{")
        sock = dial(port, GET * 3)  # all at once, and the last one in two pieces
        sock.sendall(GET[:25])
        sock.sendall(GET[25:].replace(b"x", b"x\r\nConnection: close"))

        assert read(sock).count(b"HTTP/1.1 200 OK") == 4


def test_an_answer_may_take_longer_than_its_request(serving, redis):
    """And the connection may then be used again; also while others keep the loop awake."""
    redis.hset(keys.job("long"), mapping={"status": "queued", "origin": "default"})

    def answers_both(port):
        with browsing(port) as web:
            for path in ("/api/jobs/long/wait?timeout=2", "/api/jobs/long"):
                web.request("GET", path, headers=BEARER)
                answer = web.getresponse()
                assert (answer.status, b'"queued"' in answer.read()) == (200, True)

    with serving(patience_s=1) as port, ThreadPoolExecutor() as clients:
        for _ in range(4):
            both = [clients.submit(answers_both, port) for _ in range(4)]  # that may wait at once
            while not all(one.done() for one in both):
                status(port, "/login")
            assert [one.exception() for one in both] == [None] * 4


def test_clients_that_keep_their_connection_open_delay_no_other(serving, dial):
    with serving(patience_s=300) as port:
        held = [dial(port, GET.replace(b"x", b"x\r\nConnection: close")) for _ in range(100)]

        assert status(port, "/healthz") == 200
        assert all(read(sock).startswith(b"HTTP/1.1 200 OK") for sock in held)


def test_large_answers_that_clients_do_not_read_hold_no_thread(serving, redis, dial):
    redis.sadd(
        "rq:queues",
        *(f"rq:queue:{number:04}" + "\N{GRINNING FACE}" * 196 for number in range(1500)),
    )
    get = GET.replace(b"/healthz", b"/metrics").replace(b"x\r", BEARER_LINE + b"\r")
    with serving(patience_s=300) as port:
        held = [dial(port, get * 4, receive_bytes=4096) for _ in range(API_THREADS)]
        wait_until(lambda: all(map(is_readable, held)))

        # Each of these waits for one more answer to all of them.
        statuses = {status(port, "/api/functions") for _ in range(4)}
        for sock in held:
            sock.close()  # else its end waits for them

    assert statuses == {200}


def test_unfinished_requests_do_not_hold_up_its_end(serving, dial):
    with serving(patience_s=3000) as port:
        for begin in UNFINISHED:
            dial(port, begin)
        assert status(port, "/healthz") == 200
    # `serving` waits for it.


BEARER = {"Authorization": f"Bearer {TOKEN}"}
BEARER_LINE = f"localhost\r\nAuthorization: Bearer {TOKEN}".encode()
JSON = {"Content-Type": "application/json"}


@contextmanager
def browsing(port):
    """A client that keeps its connection for the next request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as web:
        yield web


@pytest.fixture
def serving(redis, tmp_path):
    """A real web process: `with serving(patience_s=1) as port`; `files` limits those it opens."""

    @contextmanager
    def serve(patience_s=300, files="-Sn 1024"):
        port = free_port()
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                ["sh", "-c", f'ulimit {files}; exec "$@"', "sh",
                 sys.executable, "-c", PROGRAM.format(patience_s=patience_s)],
                cwd=ROOT, stdout=log, stderr=log,
                env=os.environ | {"PORT": str(port), "API_TOKEN": TOKEN},
            )  # fmt: skip
        serve.pid = process.pid
        try:
            wait_until(lambda: answers(port))
            yield port
        finally:
            process.terminate()
            code = process.wait(PATIENCE_S)
        assert code == 0
        assert "Traceback" not in (tmp_path / "log").read_text()

    return serve


@pytest.fixture
def dial():
    """Open a connection and begin a request: `dial(port, b"GET /")`."""
    with ExitStack() as opened:

        def begin(port, words, receive_bytes=0):
            sock = opened.enter_context(socket.socket())
            if receive_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            sock.settimeout(PATIENCE_S)
            sock.connect(("127.0.0.1", port))
            with suppress(ConnectionError):  # it has been cut off since
                sock.sendall(words)
            return sock

        yield begin


def answers(port):
    try:
        return status(port, "/healthz") == 200
    except OSError:
        threading.Event().wait(0.05)
        return False


def status(port, path):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=BEARER)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.status


def read(sock):
    """All that the other side sends until it hangs up."""
    received = b""
    with suppress(ConnectionResetError):
        while more := sock.recv(4096):
            received += more
    return received


def is_readable(sock, within_s=0):
    """Whether the other side has answered or hung up."""
    return bool(select.select([sock], [], [], within_s)[0])
