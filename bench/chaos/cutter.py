"""A wire to Redis that does harm, in either direction, while `is_cutting`."""

import random
import select
import socket
import struct
import threading
import time
from contextlib import suppress

CHUNK = 65536
# A reset, not a polite goodbye: the other side finds out in the middle of what it was doing.
RESET = struct.pack("ii", 1, 0)
LOOK_EVERY_S = 0.2
LATE_S = (0.01, 0.5)
# A worker waits that long for work, behind which its claim is carried out.
WAITS_S = 6


class Cutter:
    """Listens on `port`, leads to `target`.

    Each connection lives `mean_bytes` on average.  One message in `late_one_in` is late: it is held
    for a moment, or the client loses its connection before Redis has it, or before the answer.
    """

    def __init__(
        self, target: int, rng: random.Random, mean_bytes: float, late_one_in: int = 0
    ) -> None:
        self.target = target
        self._rng = rng
        self._mean_bytes, self._late_one_in = mean_bytes, late_one_in
        self._over = False
        self.is_cutting = False
        self.cuts = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(LOOK_EVERY_S)
        self.port = self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, is_cutting: bool) -> None:
        self.is_cutting = is_cutting

    def close(self) -> None:
        self._over = True
        self._accepting.join()
        self._listening.close()

    def _accept(self) -> None:
        while not self._over:
            with suppress(OSError):
                near, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            near.settimeout(None)
            with socket.create_connection(("127.0.0.1", self.target)) as far:
                self._pass_on(near, far)
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        """Return when one side is gone or the bytes of this connection are used up."""
        other = {near: far, far: near}
        left = self._rng.expovariate(1 / self._mean_bytes)
        while not self._over:
            for end in select.select([near, far], [], [], LOOK_EVERY_S)[0]:
                data = end.recv(CHUNK)
                if not data:
                    return
                if self.is_cutting and len(data) > left:
                    self.cuts += 1
                    other[end].sendall(data[: int(left)])
                    return
                left -= len(data) if self.is_cutting else 0
                late_s = self._rng.uniform(*LATE_S) if self._is_late_now() else 0
                if late_s and end is near and self._rng.random() < 0.5:
                    self._lose(near, far, data, late_s)
                    return
                time.sleep(late_s)
                other[end].sendall(data)

    def _is_late_now(self) -> bool:
        return (
            self.is_cutting
            and bool(self._late_one_in)
            and not self._rng.randrange(self._late_one_in)
        )

    def _lose(self, near: socket.socket, far: socket.socket, data: bytes, late_s: float) -> None:
        """Have a command carried out, now or late, whose client hears no answer."""
        self.cuts += 1
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self._rng.random() < 0.5:
            near.close()
            time.sleep(late_s)
        far.sendall(data)
        select.select([far], [], [], WAITS_S)
