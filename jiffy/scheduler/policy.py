"""What becomes of ticks that come late, or while the one before still runs; how often; how spread.

Checked and worked out here, as far as that goes without Redis; `entry_ticks.lua` does the rest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any, Literal, get_args

from jiffy import clock
from jiffy.errors import InvalidValue, did_you_mean
from jiffy.scheduler.timing import EPOCH, At, Every, Timing, Window

Missed = Literal["once", "skip", "all"]
Overlap = Literal["skip", "allow", "queue one", "replace"]

# As many of an expression's times are looked at to find how close together they come.
_TIMES_COMPARED = 100


@dataclass(frozen=True, kw_only=True)
class Policy:
    """`missed`: ticks that no scheduler made in time are one job, none, or a job each.  `overlap`:
    what to do while the last tick's job waits or runs.  `repeat`: how many ticks; None: no end."""

    missed: Missed = "once"
    overlap: Overlap = "allow"
    jitter_s: float = 0
    repeat: int | None = None

    def due(self, entry_id: str, slot: datetime) -> datetime:
        """When the tick of `slot` is enqueued: every scheduler, at every start, says the same."""
        if not self.jitter_s:
            return slot
        text = f"{entry_id}:{slot.timestamp():.3f}".encode()
        share = int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48
        return slot + timedelta(milliseconds=int(share * self.jitter_s * 1000))

    def in_words(self, timing: Timing) -> str:
        """What is not usual for entries of such a timing; "" for nothing."""
        words = [f"overlap: {self.overlap}"] if self.overlap != usual_overlap(timing) else []
        words += [f"missed: {self.missed}"] if self.missed != "once" else []
        words += [f"jitter {clock.in_words(self.jitter_s)}"] if self.jitter_s else []
        words += [f"{self.repeat} times in all"] if self.repeat else []
        return ", ".join(words)


NAMES = ("missed", "overlap", "jitter", "repeat")
NO_POLICY = Policy()


def read(given: Mapping[str, Any], timing: Timing) -> Policy:
    """The policy of an entry of this timing; what is not given does not apply to it.

    Raises InvalidValue.
    """
    missed = _one_of("missed", given["missed"], get_args(Missed))
    overlap = _one_of("overlap", given.get("overlap", "allow"), get_args(Overlap))
    if missed == "all" and overlap != "allow":
        raise InvalidValue("missed", missed, "given with overlap='allow': they come all at once")
    jitter_s = _jitter_s(given.get("jitter", 0), timing)
    repeat = _repeat(given.get("repeat"))
    return Policy(missed=missed, overlap=overlap, jitter_s=jitter_s, repeat=repeat)


def usual_overlap(timing: Timing) -> Overlap:
    """What the lines of the table have by default."""
    return "skip" if isinstance(_unbounded(timing), Every) else "allow"


def of_dict(stored: Mapping[str, Any]) -> Policy:
    """The policy that `dataclasses.asdict` made this of."""
    return Policy(**{field.name: stored[field.name] for field in fields(Policy)})


def _one_of(name: str, value: Any, known: Sequence[str]) -> Any:
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise InvalidValue(name, value, f"one of {', '.join(map(repr, known))}{hint}")
    return value


def _repeat(value: object) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise InvalidValue("repeat", value, "how many ticks to make, from 1")
    return value


def _jitter_s(given: clock.Duration, timing: Timing) -> float:
    jitter_s = clock.seconds(given, "jitter")
    shortest_s = _shortest_s(timing) if jitter_s else None
    if shortest_s is not None and jitter_s >= shortest_s:
        interval = clock.in_words(shortest_s)
        raise InvalidValue("jitter", given, f"shorter than the time between two ticks, {interval}")
    return jitter_s


def _unbounded(timing: Timing) -> Timing:
    """The same without a start and an end."""
    return timing.timing if isinstance(timing, Window) else timing


def _shortest_s(timing: Timing) -> float | None:
    """The shortest time between two ticks; None where there is but one."""
    inner = _unbounded(timing)
    if isinstance(inner, At):
        return None
    if isinstance(inner, Every):
        return inner.interval_s
    times = islice(inner.times_after(EPOCH), _TIMES_COMPARED)
    return min((later - sooner).total_seconds() for sooner, later in pairwise(times))
