"""A real HTTP server that keeps what it is sent."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
