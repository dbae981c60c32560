"""A line to Redis that can be cut at any byte, or fall silent."""

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit


class Cutter:
    """Listens at `url` and passes all on to Redis and back, except what it has to cut off."""

    def __init__(self, redis_url):
        self._target = urlsplit(redis_url).path
        self._folder = tempfile.TemporaryDirectory(prefix="jiffy-cut-")
        self._path = str(Path(self._folder.name) / "s")
        self.url = f"unix://{self._path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen()
        self._cut = None
        self._refusals = 0
        self._sockets, self._silent = [], set()
        self._heard = {"asked": 0, "answered": 0}
        self.cuts = 0

    def __enter__(self):
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with suppress(OSError):  # it has ended
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._folder.cleanup()

    @property
    def heard(self):
        """How many bytes were asked last, and answered."""
        return self._heard["asked"], self._heard["answered"]

    def cut_once(self, way, after, meanwhile=lambda: None, *, passing=0):
        """Hang up after so many more bytes are "asked" or "answered", once so many have passed."""
        self._cut = [way, after, meanwhile]
        self._passing = passing

    def cut_each(self, asked_step, answered_step=1):
        """Cut what was asked or answered last at each of these bytes, one a turn; yields where."""
        asked, answered = self.heard
        for way, size, step in (
            ("asked", asked, asked_step),
            ("answered", answered, answered_step),
        ):
            for after in range(0, size, step):
                self.cut_once(way, after)
                yield way, after

    def refuse(self, times):
        """Hang up on the next ones that call."""
        self._refusals = times

    def silence(self):
        """From now on, what is sent on the connections that are open is lost; they stay open."""
        self._silent.update(self._sockets)

    def _accept(self):
        lines = []
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                break
            if self._refusals:
                self._refusals -= 1
                client.close()
                continue
            lines.append(threading.Thread(target=self._serve, args=(client,)))
            lines[-1].start()
        for line in lines:
            line.join()

    def _serve(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        self._sockets += [client, server]
        back = threading.Thread(target=self._pass_on, args=(server, client, "answered"))
        back.start()
        self._pass_on(client, server, "asked")
        back.join()
        client.close()
        server.close()

    def _pass_on(self, source, sink, way):
        while raw := _received(source):
            if source in self._silent:
                continue
            self._heard[way] = len(raw)
            if self._is_cut_by(raw, way):
                after, meanwhile = self._cut[1:]
                self._cut = None
                self.cuts += 1
                meanwhile()
                _sent(sink, raw[:after])
                break
            _sent(sink, raw)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _is_cut_by(self, raw, way):
        if self._cut is None or self._cut[0] != way:
            return False
        self._passing -= 1
        return self._passing < 0 and self._cut[1] < len(raw)


def _received(source):
    try:
        return source.recv(1 << 20)
    except OSError:
        return b""


def _sent(sink, raw):
    with suppress(OSError):
        sink.sendall(raw)
