"""A real HTTP server that keeps what it is sent."""

import json
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.newcomer import PATIENCE_S


class Receiver:
    """`heard` is what came, in order: (method, path, what `read` makes of the body); `statuses`
    what it answers, one after the other (an address: go there), and then 200."""

    def __init__(self, address, read):
        self.address = address
        self.read = read
        self.heard = []
        self.statuses = []

    def answer(self, method, path, body):
        self.heard.append((method, path, self.read(body) if body else None))
        return self.statuses.pop(0) if self.statuses else 200


@contextmanager
def receiving(read=json.loads):
    """A receiver that runs meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = receiver.answer(self.command, self.path, body)
            if isinstance(status, str):
                self.send_response(302)
                self.send_header("Location", status)
            else:
                self.send_response(status)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the same

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}", read)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Flood:
    """`heard` is what came, as bytes; `is_cut_short` whether the client has hung up."""

    def __init__(self, address):
        self.address = address
        self.heard = b""
        self.is_cut_short = False


@contextmanager
def flooding(first, again, pause_s=0):
    """A receiver that answers one request: `first`, then `again` and again, `pause_s` apart."""
    pause = threading.Event()

    def answer():
        with suppress(OSError), listener.accept()[0] as connection:
            flood.heard = connection.recv(65536)
            connection.sendall(first)
            flood.is_cut_short = True
            for _ in range((1 << 26) // len(again)):
                pause.wait(pause_s)
                connection.sendall(again)
            flood.is_cut_short = False

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        flood = Flood(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield flood
        thread.join()
