"""Read the ledger, hold it against Redis, and say what became of every job."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from redis import Redis
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer

from jiffy import keys

QUEUE = "chaos"
FINISHED = b"finished"
FAILED = b"failed"


class Fate(Enum):
    """What became of a job.  Each job has exactly one."""

    ONCE = "done once"
    MORE = "done more than once"
    FAILED = "failed with reason"
    UNEXPLAINED = "failed without"
    DENIED = "ended, shown failed"
    LOST = "lost"
    STUCK = "stuck"


@dataclass
class Runs:
    """What the ledger says of one job: when which process began it and ended it."""

    begins: list[tuple[float, str]] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)

    def beside_itself(self) -> bool:
        """Whether two runs that both came to their end overlapped."""
        spans = sorted(
            (max(at for at, pid in self.begins if pid == ended_by and at <= ended), ended)
            for ended, ended_by in self.ends
        )
        return any(begin < ended for (_, ended), (begin, _) in itertools.pairwise(spans))


def read(path: Path) -> dict[str, Runs]:
    """The runs of each job that began at all."""
    runs: dict[str, Runs] = defaultdict(Runs)
    for line in path.read_text().splitlines() if path.exists() else []:
        at, event, name, pid = line.split()
        entries = runs[name].begins if event == "begin" else runs[name].ends
        entries.append((float(at), pid))
    return runs


class Books:
    """What Redis says of the jobs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def unsettled(self, job_ids: Collection[str]) -> set[str]:
        """Those of `job_ids` whose outcome is not written."""
        failed = self._named(self._redis.zrange(keys.REGISTRIES["failed"] + QUEUE, 0, -1))
        statuses = self._statuses(job_ids)
        return {
            job_id
            for job_id in job_ids
            if statuses[job_id] not in (FINISHED, FAILED) and job_id not in failed
        }

    def fates(self, job_ids: Collection[str], runs: dict[str, Runs]) -> dict[str, Fate]:
        """The fate of each job, once no more is to be expected."""
        unsettled, named = self.unsettled(job_ids), self._all_named()
        statuses = self._statuses(job_ids)
        fates = {}
        for job_id in job_ids:
            ends = len(runs[job_id].ends) if job_id in runs else 0
            if job_id in unsettled:
                fates[job_id] = Fate.STUCK if job_id in named or ends else Fate.LOST
            elif statuses[job_id] == FINISHED:
                fates[job_id] = Fate.MORE if ends > 1 else Fate.ONCE
            else:
                explained = Fate.FAILED if self.reason(job_id) else Fate.UNEXPLAINED
                fates[job_id] = Fate.DENIED if ends else explained
        return fates

    def reason(self, job_id: str) -> str:
        """The last line of why a job failed; nothing if it is nowhere."""
        try:
            job = Job(job_id, connection=self._redis, serializer=JSONSerializer)
            result = Result.fetch_latest(job, serializer=JSONSerializer)
        except Exception:  # noqa: BLE001 - poison is there to break whoever reads it
            return ""
        return ((result and result.exc_string) or "").strip().rpartition("\n")[2]

    def _statuses(self, job_ids: Iterable[str]) -> dict[str, Any]:
        """The status of each; an error where its key is no hash."""
        pipeline = self._redis.pipeline(transaction=False)
        job_ids = list(job_ids)
        for job_id in job_ids:
            pipeline.hget(keys.job(job_id), "status")
        answers = pipeline.execute(raise_on_error=False)
        return dict(zip(job_ids, answers, strict=True))

    def _all_named(self) -> set[str]:
        """The jobs that a queue or a registry names: those that somebody may look at."""
        named = set()
        for key in (keys.queue(QUEUE), f"{keys.queue(QUEUE)}:intermediate"):
            named |= self._named(self._redis.lrange(key, 0, -1))
        for prefix in keys.REGISTRIES.values():
            named |= self._named(self._redis.zrange(prefix + QUEUE, 0, -1))
        return named

    @staticmethod
    def _named(members: Any) -> set[str]:
        # The started registry names executions: job:execution.
        return {member.decode().partition(":")[0] for member in members}


@dataclass(frozen=True)
class Row:
    """One line of the table: a scenario, a worker, and what became of the jobs."""

    scenario: str
    worker: str
    enqueued: int
    fates: Counter[Fate]
    beside_itself: int
    settled_s: float | None  # None: not before the deadline
    details: dict[str, str]

    @property
    def is_safe(self) -> bool:
        return not self.fates[Fate.LOST] and not self.fates[Fate.STUCK]
