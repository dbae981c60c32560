"""The web process: how it starts, refuses to, and stops."""

import ctypes
import http.client
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest

from jiffy import keys
from jiffy.clock import monotonic
from jiffy.dashboard import server as server_module
from jiffy.dashboard.server import Server
from tests.support.newcomer import PATIENCE_S, wait_until
from tests.support.ports import free_port
from tests.web.conftest import TOKEN

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DASHBOARD = [sys.executable, "dashboard.py"]
HEAPS = """
import ctypes, threading, dashboard
from jiffy.dashboard import server

def run(self):
    everyone, held = threading.Barrier(4), []
    def hold():
        everyone.wait()
        held.append(bytearray(5000))
        everyone.wait()
    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    ctypes.CDLL(None).malloc_stats()

server.Server.run = run
server.serve(dashboard.app)
"""


def test_production_without_a_password_ends_with_one_line_and_code_2(port):
    ended = run(port, JIFFY_ENV="production")

    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(
        "DASHBOARD_PASSWORD is not set. Production needs"
    )
    assert "Traceback" not in ended.stderr


def test_production_without_a_secret_key_ends_with_one_line_and_code_2(port):
    ended = run(port, JIFFY_ENV="production", DASHBOARD_PASSWORD="x" * 12, SECRET_KEY="")

    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        "SECRET_KEY is not set. Production needs one, the same in every web process: "
        "set it to what python -c 'import secrets; print(secrets.token_hex(32))' prints."
    )
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_one_line_and_code_2(port):
    with socket.create_server(("127.0.0.1", port)):
        ended = run(port)

    assert ended.returncode == 2
    assert ended.stderr == (
        f"Cannot listen at 127.0.0.1:{port} (address already in use). Set PORT to another one.\n"
    )


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 200),
        ({"DASHBOARD_USERS": f"ann:viewer:scrypt:32768:8:1/salt/{'0' * 128}"}, 302),
        ({"TRUSTED_PROXIES": "1", "ALLOWED_HOSTS": "127.0.0.1,jobs.example.com"}, 302),
        ({"ALLOWED_HOSTS": "127.0.0.1,jobs.example.com"}, 302),
        ({"ALLOWED_HOSTS": "127.0.0.1"}, 200),
        ({"URL_PREFIX": "/jiffy"}, 302),
    ],
)
def test_only_where_this_machine_alone_reaches_it_does_the_dashboard_of_a_url_ask_for_no_login(
    port, redis_address, tmp_path, more, status
):
    command = [sys.executable, "-m", "jiffy", "dashboard", redis_address]
    with running(command, port, tmp_path, **more):
        wait_for(f"http://127.0.0.1:{port}/healthz")
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as line:
            line.request("GET", "/jobs")
            answer = line.getresponse()

    assert answer.status == status


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="glibc only")
def test_threads_share_a_heap_and_do_not_each_keep_the_most_they_held(port):
    ended = run(port, [sys.executable, "-c", HEAPS], DASHBOARD_PASSWORD="x")

    assert re.findall("^Arena.*", ended.stderr, re.MULTILINE) == ["Arena 0:"]


def test_a_host_that_is_not_this_machine_is_one_line_and_code_2(port):
    ended = run(port, DASHBOARD_PASSWORD="x", HOST="no-such-host.invalid")

    assert (ended.returncode, ended.stderr) == (
        2,
        "HOST is 'no-such-host.invalid'; it must be an address of this machine.\n",
    )


def test_it_takes_the_redis_as_its_argument_and_needs_no_other(port, redis_address, tmp_path):
    environ = {"DASHBOARD_PASSWORD": "x" * 12, "SECRET_KEY": "k" * 40, "JIFFY_ENV": "production"}
    with running([*DASHBOARD, redis_address], port, tmp_path, REDIS_URL="", **environ):
        body = wait_for(f"http://127.0.0.1:{port}/healthz")

    assert b'"redis":"ok"' in body


def test_it_starts_without_its_redis_and_says_why(port, tmp_path):
    with running(DASHBOARD, port, tmp_path, REDIS_URL="redis://:secret@127.0.0.1:1/0"):
        wait_until(lambda: "redis.away" in (tmp_path / "log").read_text())
        with pytest.raises(HTTPError, match="503"):
            wait_for(f"http://127.0.0.1:{port}/healthz")
    [line] = [line for line in (tmp_path / "log").read_text().splitlines() if "redis.away" in line]

    assert "No Redis at redis://***@127.0.0.1:1/0 (connection refused). Run " in line


def test_it_serves_as_the_procfile_says_until_sigterm(port, tmp_path):
    [web] = re.findall(r"^web: (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with running(["sh", "-c", f"exec env {web}"], port, tmp_path, PATH=path) as process:
        body = wait_for(f"http://127.0.0.1:{port}/healthz")

    assert b'"redis":"ok"' in body
    assert process.returncode == 0
    assert len(re.findall(r"password: \S+", (tmp_path / "log").read_text())) == 1


@pytest.mark.parametrize("signals", [1, 3])
def test_a_running_request_is_answered_after_sigterm_and_no_connection_accepted(
    signals, port, tmp_path, redis
):
    redis.hset(keys.job("long"), mapping={"status": "queued", "origin": "default"})
    redis.config_resetstat()
    with running(DASHBOARD, port, tmp_path, API_TOKEN="a-token") as process:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as web:
            path = "/api/jobs/long/wait?timeout=60"
            web.request("GET", path, headers={"Authorization": "Bearer a-token"})
            wait_until(lambda: "cmdstat_xread" in redis.info("commandstats"))
            for _ in range(signals):
                process.terminate()
            wait_until(lambda: not accepts(port))
            redis.hset(keys.job("long"), "status", "canceled")
            answer = web.getresponse()

            assert (answer.status, b'"canceled"' in answer.read()) == (200, True)
            # Else a client would send its next request on a connection that is then closed.
            assert answer.getheader("Connection") == "close"


def test_a_request_that_has_arrived_before_the_stop_is_answered(app):
    """A proxy that has connected sends no POST again."""
    server = Server(app, "127.0.0.1", 0)
    with closing(http.client.HTTPConnection("127.0.0.1", server.effective_port)) as web:
        web.request("GET", "/healthz")
        server.stop()
        server.run()
        answer = web.getresponse()

    assert (answer.status, answer.getheader("Connection")) == (200, "close")


def test_a_request_that_is_being_sent_at_the_stop_is_answered(app, monkeypatch):
    monkeypatch.setattr(server_module, "LINGER_S", 0.5)
    server = Server(app, "127.0.0.1", 0)
    serving = threading.Thread(target=server.run)
    serving.start()
    address = ("127.0.0.1", server.effective_port)
    with closing(socket.create_connection(address, PATIENCE_S)) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        server.stop()
        threading.Event().wait(1.5)
        sock.sendall(b" ")
        answer = sock.recv(65536)
    serving.join(PATIENCE_S)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert not serving.is_alive()


def test_a_request_that_waits_is_answered_before_the_process_ends(app, redis, monkeypatch):
    monkeypatch.setattr(server_module, "LINGER_S", server_module.DRAIN_S)
    redis.hset(keys.job("long"), mapping={"status": "queued", "origin": "default"})
    server = Server(app, "127.0.0.1", 0)
    with closing(http.client.HTTPConnection("127.0.0.1", server.effective_port)) as web:
        path = "/api/jobs/long/wait?timeout=60"
        web.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        server.stop()
        server.run()
        answer = web.getresponse()

        assert (answer.status, b'"queued"' in answer.read()) == (200, True)


def test_a_proxys_connection_serves_one_more_request_after_the_stop(app, monkeypatch):
    """Else one that is on its way is lost, and a proxy sends no POST again."""
    monkeypatch.setattr(server_module, "LINGER_S", PATIENCE_S)
    server = Server(app, "127.0.0.1", 0)
    serving = threading.Thread(target=server.run)
    serving.start()
    with closing(http.client.HTTPConnection("127.0.0.1", server.effective_port)) as web:
        web.request("GET", "/healthz")
        assert web.getresponse().read()
        server.stop()
        wait_until(lambda: not accepts(server.effective_port))
        web.request("GET", "/healthz")
        answer = web.getresponse()
        serving.join(PATIENCE_S)

    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    assert not serving.is_alive()


def test_no_thread_but_the_loop_closes_a_connection(app, monkeypatch):
    """It may be going through them all: clients leave as they are sent 100 Continue."""
    closers, close = Counter(), server_module._Channel.handle_close
    monkeypatch.setattr(
        server_module._Channel, "handle_close",
        lambda self: (closers.update([threading.current_thread()]), close(self)),
    )  # fmt: skip
    server = Server(app, "127.0.0.1", 0)
    serving = threading.Thread(target=server.run)
    serving.start()
    two = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nPOST /login HTTP/1.1\r\nHost: x\r\n"
    two += b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def leave_early(_):
        with socket.create_connection(("127.0.0.1", server.effective_port), PATIENCE_S) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(two)
            while b"}" not in sock.recv(65536):
                pass

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(leave_early, range(500)))
    server.stop()
    serving.join(PATIENCE_S)

    assert closers.keys() == {serving}


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    except ConnectionError:  # refused, or reset as the listener was closed
        return False
    return True


def test_as_the_clock_is_set_no_request_is_cut_off(live, monkeypatch):
    host, port = live.removeprefix("http://").split(":")
    head, rest = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nuse", b"r=x"
    moment = time.time
    with socket.create_connection((host, port), PATIENCE_S) as line:
        line.sendall(head)
        wait_for(f"{live}/healthz")
        monkeypatch.setattr(time, "time", lambda: moment() + 3600)
        for _ in range(3):
            wait_for(f"{live}/healthz")
        line.sendall(rest)

        assert line.recv(100).startswith(b"HTTP/1.1 403 ")


@contextmanager
def running(command, port, folder, **environ):
    """A web process, which gets SIGTERM at the end."""
    with (folder / "log").open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(port) | environ, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def port():
    return free_port()


def run(port, command=DASHBOARD, **environ):
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(port) | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def environment(port):
    return os.environ | {"PORT": str(port)}


def wait_for(url):
    deadline = monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError as error:
            if monotonic() > deadline or isinstance(error, HTTPError):
                raise
            threading.Event().wait(0.05)
