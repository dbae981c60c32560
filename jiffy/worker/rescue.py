"""What becomes of the jobs of a worker that died."""

from dataclasses import dataclass
from enum import Enum

from jiffy import clock, keys, log
from jiffy.worker.board import Running
from jiffy.worker.line import Line
from jiffy.worker.outcome import Failed, Taken
from jiffy.worker.settle import RareSettler

TOO_MANY_DEATHS = 3
SWEEP_EVERY_S = 3
_SHORTEST_GAP_S, _LONGEST_GAP_S, _QUIET_S = 2.5, 7.0, 5.0


class Verdict(Enum):
    """What to do with the job that ran when its worker died; the others just go back."""

    COUNT = "count"  # back to the front, unless too many workers have died of it
    FREE = "free"  # back to the front: it was not its fault
    FAIL = "leave"  # failed, for the reason given


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a worker died; `ran` is the job that it ran, where its supervisor saw it."""

    worker: str
    cause: str
    ran: Running | None = None
    is_gone: bool = False
    verdict: Verdict = Verdict.COUNT
    was_stopped: bool = False
    kinds: tuple[str, ...] = ()  # as in `Failed`


class Rescuer:
    """Puts the jobs of the dead back on their queues, or fails those that kill."""

    def __init__(self, line: Line, rare: RareSettler) -> None:
        self._line, self._rare = line, rare

    def sweep(self) -> None:
        """Look for workers whose lease has run out, and rescue what they held.

        Raises redis-py's errors; a repetition goes on where this one ended.
        """
        gaps = [_SHORTEST_GAP_S, _LONGEST_GAP_S, _QUIET_S]
        (names,) = self._line.run("sweep", [keys.LEASES, keys.LAST_SWEEP], gaps)
        for name in names:
            cause = "the machine, or the supervisor, vanished"
            self.rescue(Death(worker=name.decode(), cause=cause, is_gone=True))

    def rescue(self, death: Death) -> None:
        """Rescue what one worker held."""
        at = clock.now().strftime("%Y-%m-%d %H:%M:%S UTC")
        ran = death.ran
        (answer,) = self._line.run(
            "rescue",
            [keys.LEASES, keys.held(death.worker)],
            [
                death.worker,
                "gone" if death.is_gone else "here",
                f"{ran.batch:08x}" if ran else "",
                ran.position if ran else -1,
                death.verdict.value,
                f"{death.cause} at {at}",
                TOO_MANY_DEATHS,
            ],
        )
        rescued, aside = answer
        for job_id in rescued:
            log.event(
                "job.rescued",
                log.WARNING,
                job=_text(job_id),
                worker=death.worker,
                cause=death.cause,
            )
        for queue, job_id, execution, causes, started in aside:
            taken = Taken("full", _text(job_id), execution.decode(), _text(queue), b"", 0, 0)
            self._fail(death, taken, _text(causes), _text(started))

    def _fail(self, death: Death, taken: Taken, causes: str, started: str) -> None:
        reason = death.cause if death.verdict is Verdict.FAIL else _all_deaths(causes)
        now_s = clock.wall()
        failed = Failed(
            taken, "?", _seconds(started, now_s), now_s, reason,
            may_retry=death.verdict is Verdict.FAIL, was_stopped=death.was_stopped,
            kinds=death.kinds,
        )  # fmt: skip
        log.event("job.failed", log.ERROR, job=taken.job_id, queue=taken.queue, reason=reason)
        self._rare.in_place_of(death.worker).settle(failed)


def _seconds(started: str, latest_s: float) -> float:
    """What the job's hash says of its beginning; another machine's clock may be ahead."""
    try:
        return min(clock.read(started).timestamp(), latest_s)
    except (ValueError, OverflowError):
        return latest_s


def _all_deaths(causes: str) -> str:
    lines = causes.splitlines()
    times = "once, and it must not begin twice" if len(lines) == 1 else f"{len(lines)} times"
    return f"its worker died {times}: {'; '.join(lines)}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
