"""`jiffy dashboard`: the web app behind gunicorn, as in production."""

import os
import socket
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from jiffy.dashboard.threads import Threads
from jiffy.errors import PortTaken
from jiffy.program import in_one_line
from jiffy.settings import settings

# A thread waits on Redis most of its time; the overview of eight at once is what one core can do.
THREADS = 8


def serve(app: Flask) -> None:
    """Serve `app` at HOST:PORT until a signal comes."""
    host, port = settings().host, settings().port
    with in_one_line():
        _check_free(host, port)
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = {"bind": bind, "worker_class": Threads, "threads": THREADS}
    _Server(app, options | {"control_socket_disable": True}).run()


def _check_free(host: str, port: int) -> None:
    """Gunicorn would try five times, and say it in seven lines."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise PortTaken(host, port, os.strerror(error.errno or 0).lower()) from None


class _Server(BaseApplication):  # type: ignore[misc]  # it has no types
    def __init__(self, app: Flask, options: dict[str, Any]) -> None:
        self._app, self._options = app, options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app
