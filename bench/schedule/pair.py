"""A Redis with a replica behind one address, as managed services have it."""

import random
import time
from pathlib import Path

from redis import Redis

from bench.chaos.cutter import Cutter
from bench.chaos.servers import Server

PROMOTED_AFTER_S = 1


class Pair(Server):
    """A primary that has a replica; `port` is neither's, but leads to the one that is in charge."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "primary")
        self._replica = Server(home / "replica", "--replicaof", "127.0.0.1", str(self.port))
        self._replica.wait_until(_follows)
        # It cuts nothing here; but where it leads to can be changed.
        self._address = Cutter(self.port, random.Random(), mean_bytes=1)
        self.port = self._address.port

    def fail_over(self) -> None:
        """kill -9 of the primary; its replica is promoted a second later, at the same address."""
        super().kill()
        time.sleep(PROMOTED_AFTER_S)
        with self._replica.client() as replica:
            replica.replicaof("NO", "ONE")
        self._address.target = self._replica.port

    def kill(self) -> None:
        super().kill()
        self._replica.kill()
        self._address.close()


def _follows(replica: Redis) -> bool:
    return bool(replica.info("replication")["master_link_status"] == "up")
