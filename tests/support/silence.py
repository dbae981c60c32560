"""A line to Redis that can fall silent: it stays open, and what is sent there is lost."""

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit


class QuietLine:
    """Listens at `url`, and passes all on to Redis and back."""

    def __init__(self, redis_url):
        self._target = urlsplit(redis_url).path
        self._folder = tempfile.TemporaryDirectory(prefix="jiffy-quiet-")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._folder.name) / "s"))
        self._listener.listen()
        self.url = f"unix://{self._listener.getsockname()}"
        self._sockets, self._threads, self._silent = [], [], set()

    def __enter__(self):
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for one in self._sockets:
            with suppress(OSError):  # it has ended
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()
        self._folder.cleanup()

    def silence(self):
        """From now on, nothing comes through the connections that are open."""
        self._silent.update(self._sockets)

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=ends))
                    self._threads[-1].start()

    def _pass_on(self, one, other):
        with suppress(OSError):
            while said := one.recv(1 << 16):
                if one not in self._silent:
                    other.sendall(said)
        with suppress(OSError):  # it ends the other way, too
            other.shutdown(socket.SHUT_RDWR)
