"""The contestants: how to start one scheduler process, and which list of Redis its jobs go to."""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import environments

_SLOT = re.compile(rb"-(\d{8}T\d{6}Z)$")


@dataclass(frozen=True)
class Contestant:
    """A scheduler, as its documentation says that it is to be started."""

    # The command line of one process, given the folder of its Python and a folder of its own.
    command: Callable[[Path, Path], list[str]]
    # The list, and the end of it from which workers take.
    queue: str = "rq:queue:default"
    end: str = "LEFT"
    # The requirements that it runs with; None: those of the project.
    peer: str | None = None
    # The module that puts the entry into Redis, once, where that is not done by the process itself.
    put: str | None = None
    # The tick that a job stands for, as a time of Unix; None where a job does not say.
    slot: Callable[[bytes], float | None] = lambda _: None

    @property
    def python(self) -> Path:
        return environments.python_for(self.peer or "")

    def prepare(self, environment: Mapping[str, str]) -> None:
        if self.put:
            command = [str(self.python), "-m", self.put]
            subprocess.run(command, cwd=environments.ROOT, env=dict(environment), check=True)


def _slot_of_ours(job_id: bytes) -> float | None:
    found = _SLOT.search(job_id)
    if found is None:
        return None
    moment = datetime.strptime(found[1].decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return moment.timestamp()


def _ours(bin_: Path, _: Path) -> list[str]:
    return [str(bin_ / "python"), "-m", "bench.schedule.entries.jiffy"]


def _rq_scheduler(bin_: Path, _: Path) -> list[str]:
    return [str(bin_ / "rqscheduler"), "--interval", "1"]


def _rq_cron(bin_: Path, _: Path) -> list[str]:
    return [str(bin_ / "rq"), "cron", "bench.schedule.entries.rq_cron"]


def _celery_beat(bin_: Path, home: Path) -> list[str]:
    """Each with a file of its own for what it has done, which outlives it."""
    app = ["--app", "bench.schedule.entries.celery"]
    files = ["--schedule", str(home / "done"), "--pidfile", ""]
    return [str(bin_ / "celery"), *app, "beat", *files]


CONTESTANTS: Mapping[str, Contestant] = {
    "jiffy": Contestant(_ours, slot=_slot_of_ours),
    "rq-scheduler": Contestant(_rq_scheduler, put="bench.schedule.entries.rq_scheduler"),
    "rq cron": Contestant(_rq_cron),
    "celery beat": Contestant(_celery_beat, queue="celery", end="RIGHT", peer="celery"),
}
