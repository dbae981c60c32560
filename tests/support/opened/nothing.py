"""What many modules do as they are imported, and children may share: a log file, a client that has
not connected yet, a thread that has ended."""

import os
import threading
from pathlib import Path

import redis

log = Path(os.environ["LOG"]).open("a")  # noqa: SIM115 - as loggers do
client = redis.Redis(port=1)
threading.Thread(target=int).start()
importer = os.getpid()


def importer_and_user():
    return [importer, os.getpid()]
