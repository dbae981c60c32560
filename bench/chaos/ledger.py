"""Read the ledger, hold it against Redis, and say what became of every job."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
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


@dataclass(frozen=True, slots=True)
class Expected:
    """What must become of a job, unless its process dies."""

    job_id: str
    name: str = ""  # in the ledger; "": its id.  Two jobs that are the same call share it
    after: tuple[str, ...] = ()  # the names of those that must have ended before it begins
    ends: int = 1  # of all jobs with its name
    runs: int = 1  # with those that fail
    retries_left: int = 0
    calls: int = 0  # of its callback
    together: int = 0  # so many at most of its kind, or of its name, run at a time; 0: any number
    may_restart: bool = True


@dataclass
class Runs:
    """What the ledger says of one job: when which process began it and ended it."""

    begins: list[tuple[float, str]] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)
    calls: int = 0

    def spans(self) -> list[tuple[float, float]]:
        """When it began and ended, of those runs that came to their end."""
        return sorted(
            (max(at for at, pid in self.begins if pid == ended_by and at <= ended), ended)
            for ended, ended_by in self.ends
        )

    def beside_itself(self) -> bool:
        """Whether two runs that both came to their end overlapped."""
        return most_together(self.spans()) > 1


def most_together(spans: Iterable[tuple[float, float]]) -> int:
    """How many of these ran at the same time."""
    steps = sorted(step for began, ended in spans for step in ((began, 1), (ended, -1)))
    return max(itertools.accumulate(by for _, by in steps), default=0)


def read(path: Path) -> dict[str, Runs]:
    """The runs of each job that began at all."""
    runs: dict[str, Runs] = defaultdict(Runs)
    for line in path.read_text().splitlines() if path.exists() else []:
        at, event, name, pid = line.split()
        run = runs[name]
        if event == "call":
            run.calls += 1
        elif event != "fail":
            (run.begins if event == "begin" else run.ends).append((float(at), pid))
    return runs


def wrong_counts(
    expected: Collection[Expected], runs: Mapping[str, Runs], *, processes_die: bool
) -> dict[str, str]:
    """The jobs that ran more or less often, earlier, or with more others than they may.

    Where processes die a job may begin again, unless it says otherwise.
    """
    wrong, together = {}, defaultdict[tuple[str, int], set[tuple[float, float]]](set)
    for job in expected:
        name = job.name or job.job_id
        run = runs.get(name, Runs())
        began, least = len(run.begins), job.runs if run.ends else 0
        most = job.runs if not (processes_die and job.may_restart) else began
        if not least <= began <= most:
            wrong[job.job_id] = f"began {began} times instead of {job.runs}"
        elif run.ends and not job.calls <= run.calls <= (1000 if processes_die else job.calls):
            wrong[job.job_id] = f"its callback was called {run.calls} times"
        if any(not runs[each].ends or min(runs[each].ends) > min(run.begins, default=(9e9, ""))
               for each in job.after if run.begins):  # fmt: skip
            wrong[job.job_id] = "began before those that it waits for had ended"
        if job.together and not processes_die:
            kind = name if job.together == 1 else ""
            together[kind, job.together] |= set(run.spans())
    for (kind, most), spans in together.items():
        if most_together(spans) > most:
            wrong[kind or "limited"] = f"{most_together(spans)} of them ran at a time"
    return wrong


class Books:
    """What Redis says of the jobs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def unsettled(self, job_ids: Collection[str]) -> set[str]:
        """Those of `job_ids` whose outcome is not written."""
        failed = self._named(self._redis.zrange(keys.REGISTRIES["failed"] + QUEUE, 0, -1))
        statuses = self._each(job_ids, "status")
        return {
            job_id
            for job_id in job_ids
            if statuses[job_id] not in (FINISHED, FAILED) and job_id not in failed
        }

    def fates(self, expected: Mapping[str, Expected], runs: Mapping[str, Runs]) -> dict[str, Fate]:
        """The fate of each job, once no more is to be expected."""
        unsettled, named = self.unsettled(expected), self._all_named()
        statuses = self._each(expected, "status")
        fates = {}
        for job_id, job in expected.items():
            ends = len(runs.get(job.name or job_id, Runs()).ends)
            if job_id in unsettled:
                fates[job_id] = Fate.STUCK if job_id in named or ends else Fate.LOST
            elif statuses[job_id] == FINISHED:
                fates[job_id] = Fate.MORE if ends > job.ends else Fate.ONCE
            else:
                explained = Fate.FAILED if self.reason(job_id) else Fate.UNEXPLAINED
                fates[job_id] = Fate.DENIED if ends else explained
        return fates

    def wrong_retries(
        self, expected: Collection[Expected], *, processes_die: bool
    ) -> dict[str, str]:
        """The jobs that have fewer retries left than they must have in the end, or more.

        Where its process died, a failure may not be on record.
        """
        retried = {job.job_id: job.retries_left for job in expected if job.retries_left}
        left = self._each(retried, "retries_left")
        return {
            job_id: f"{left[job_id]} retries left"
            for job_id, number in retried.items()
            if not number <= int(left[job_id] or -1) <= (3 if processes_die else number)
        }

    def reason(self, job_id: str) -> str:
        """The last line of why a job failed; nothing if it is nowhere."""
        try:
            job = Job(job_id, connection=self._redis, serializer=JSONSerializer)
            result = Result.fetch_latest(job, serializer=JSONSerializer)
        except Exception:  # noqa: BLE001 - poison is there to break whoever reads it
            return ""
        return ((result and result.exc_string) or "").strip().rpartition("\n")[2]

    def _each(self, job_ids: Iterable[str], name: str) -> dict[str, Any]:
        """A field of each; an error where its key is no hash."""
        pipeline = self._redis.pipeline(transaction=False)
        job_ids = list(job_ids)
        for job_id in job_ids:
            pipeline.hget(keys.job(job_id), name)
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
    wrong: dict[str, str]
    settled_s: float | None  # None: not before the deadline
    details: dict[str, str]

    @property
    def is_safe(self) -> bool:
        bad = (Fate.LOST, Fate.STUCK, Fate.DENIED)
        return not any(self.fates[fate] for fate in bad) and not self.wrong
